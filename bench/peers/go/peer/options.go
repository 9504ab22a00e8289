// SPDX-License-Identifier: MIT OR Apache-2.0

// Package peer contains the parts that the Go programs share, so that each contains its server
// only: the command line, the line with the listen address, and the handling of requests.
//
//	PEER KIND [--addr ADDR] [--threads N] [--to ADDR]
//	PEER --kinds
package peer

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// The kinds of servers.
const (
	Echo  = "echo"  // echoes bytes
	RPC   = "rpc"   // frames of a 4-byte big-endian length and that many bytes, the same back
	Mux   = "mux"   // the same protocol, each request in its own goroutine
	Heavy = "heavy" // as rpc; every tenth request of a connection burns 100 us before its response
	Proxy = "proxy" // forwards bytes in both directions between the client and --to
)

// Buffer is the size of one read in bytes, where the peer may choose it.
const Buffer = 64 << 10

// Options is the command line.
type Options struct {
	Kind    string
	Addr    string
	Threads int
	To      string
}

// Parse parses the command line of a peer that serves kinds, with the flags that more adds, and
// lets as many threads run Go code as requested. It ends the process with status 2 and a line on
// stderr if the command line is invalid.
func Parse(kinds []string, more func(*flag.FlagSet)) Options {
	name := filepath.Base(os.Args[0])
	usage := fmt.Sprintf("usage: %s {%s} [--addr ADDR] [--threads N] [--to ADDR]", name, strings.Join(kinds, ","))
	if len(os.Args) < 2 {
		refuse(usage)
	}
	if os.Args[1] == "--kinds" {
		fmt.Println(strings.Join(kinds, " "))
		os.Exit(0)
	}
	options := Options{Kind: os.Args[1]}
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&options.Addr, "addr", "127.0.0.1:0", "where to listen: an IP address and a port")
	flags.IntVar(&options.Threads, "threads", 1, "how many threads run Go code")
	flags.StringVar(&options.To, "to", "", "where a proxy connects to")
	if more != nil {
		more(flags)
	}
	// It ends the process on an unknown flag.
	_ = flags.Parse(os.Args[2:])
	switch {
	case !slices.Contains(kinds, options.Kind):
		refuse(fmt.Sprintf("%s does not serve %s; %s", name, options.Kind, usage))
	case options.Threads < 1:
		refuse(fmt.Sprintf("--threads %d: at least 1", options.Threads))
	case flags.NArg() > 0:
		refuse(fmt.Sprintf("what is %q? %s", flags.Arg(0), usage))
	case options.Kind == Proxy && options.To == "":
		refuse("a proxy needs --to ADDR")
	}
	runtime.GOMAXPROCS(options.Threads)
	return options
}

func refuse(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

// ListeningOn prints the listen address on stdout.
func ListeningOn(addr net.Addr) {
	fmt.Printf("listening on %s\n", addr)
}

// Check ends the process with status 1, and a line on stderr, if there is an error.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
