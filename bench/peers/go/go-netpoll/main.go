// SPDX-License-Identifier: MIT OR Apache-2.0

// A server with Go netpoll: an event loop and an OnRequest that answers complete requests, as in
// its README. It has as many pollers as threads run Go code; with --default-pollers, the library
// chooses their number.
//
// An optimization beyond the README: one Flush for all complete requests.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"net"

	"github.com/cloudwego/netpoll"

	"netpoll-peers/peer"
)

func main() {
	byDefault := false
	kinds := []string{peer.Echo, peer.RPC, peer.Mux, peer.Heavy, peer.Proxy}
	options := peer.Parse(kinds, func(flags *flag.FlagSet) {
		flags.BoolVar(&byDefault, "default-pollers", false, "as many pollers as the library chooses")
	})
	if !byDefault {
		peer.Check(netpoll.Configure(netpoll.Config{PollerNum: options.Threads}))
	}
	plain, err := net.Listen("tcp", options.Addr)
	peer.Check(err)
	listener, err := netpoll.ConvertListener(plain)
	peer.Check(err)
	loop, err := newLoop(options)
	peer.Check(err)
	peer.ListeningOn(listener.Addr())
	peer.Check(loop.Serve(listener))
}

func newLoop(options peer.Options) (netpoll.EventLoop, error) {
	switch options.Kind {
	case peer.Echo:
		return netpoll.NewEventLoop(echo)
	case peer.Mux:
		return netpoll.NewEventLoop(answerAside, netpoll.WithOnPrepare(prepareQueue))
	case peer.Proxy:
		return netpoll.NewEventLoop(forward, netpoll.WithOnConnect(connectTo(options.To)))
	default:
		return netpoll.NewEventLoop(rpc, netpoll.WithOnPrepare(prepareCalls(options.Kind)))
	}
}

func echo(_ context.Context, conn netpoll.Connection) error {
	return pass(conn, conn)
}

// pass sends the received bytes: without a copy if they are large, in which case Flush waits for
// them.
func pass(from, to netpoll.Connection) error {
	reader := from.Reader()
	bytes, err := reader.Next(reader.Len())
	if err != nil {
		return err
	}
	if _, err := to.Writer().WriteBinary(bytes); err != nil {
		return err
	}
	if err := to.Writer().Flush(); err != nil {
		return err
	}
	return reader.Release()
}

type callsKey struct{}

func prepareCalls(kind string) netpoll.OnPrepare {
	return func(netpoll.Connection) context.Context {
		return context.WithValue(context.Background(), callsKey{}, peer.CallsOf(kind))
	}
}

// rpc waits for the first request and answers all complete ones.
func rpc(ctx context.Context, conn netpoll.Connection) error {
	calls := ctx.Value(callsKey{}).(*peer.Calls)
	reader, writer := conn.Reader(), conn.Writer()
	err := each(conn, func(length int) error {
		frame, err := reader.Next(length)
		if err != nil {
			return err
		}
		calls.Next()
		answer, err := writer.Malloc(length)
		if err != nil {
			return err
		}
		copy(answer, frame)
		return reader.Release()
	})
	if err != nil {
		return err
	}
	return writer.Flush()
}

// each calls take with the size of each complete frame, header included, and waits for the first.
// It closes a connection with an invalid length.
func each(conn netpoll.Connection, take func(length int) error) error {
	for first := true; ; first = false {
		length, there, err := next(conn.Reader(), first)
		if err != nil {
			_ = conn.Close()
			return err
		}
		if !there {
			return nil
		}
		if err := take(length); err != nil {
			return err
		}
	}
}

// next returns the size in bytes of the next frame, header included, and whether the frame is
// complete. The first one always is, since the reader waits for it.
func next(reader netpoll.Reader, first bool) (length int, there bool, err error) {
	if !first && reader.Len() < peer.Header {
		return 0, false, nil
	}
	header, err := reader.Peek(peer.Header)
	if err != nil {
		return 0, false, err
	}
	body := binary.BigEndian.Uint32(header)
	if body > peer.MaxFrame {
		return 0, false, peer.ErrTooLong
	}
	length = peer.Header + int(body)
	return length, first || reader.Len() >= length, nil
}
