// SPDX-License-Identifier: MIT OR Apache-2.0

// A server with gnet: an event handler whose OnTraffic answers complete requests, as in its README.
//
// Optimizations beyond that: one Write for all complete requests, in reused memory, and a read
// buffer of 64 KiB, as in all peers.
package main

import (
	"net"
	"os"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"netpoll-peers/peer"
)

func main() {
	options := peer.Parse([]string{peer.Echo, peer.RPC, peer.Heavy}, nil)
	// Without this it prints a start message on stdout, where the listen address is expected.
	logger, err := zap.NewProduction(zap.IncreaseLevel(zap.ErrorLevel))
	peer.Check(err)
	peer.Check(gnet.Run(&server{kind: options.Kind}, "tcp://"+options.Addr,
		gnet.WithNumEventLoop(options.Threads),
		gnet.WithReadBufferCap(peer.Buffer),
		gnet.WithLogger(logger.Sugar())))
}

type server struct {
	gnet.BuiltinEventEngine
	kind string
}

// OnBoot prints the listen address, which the engine provides as a descriptor.
func (s *server) OnBoot(engine gnet.Engine) gnet.Action {
	fd, err := engine.Dup()
	peer.Check(err)
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	listener, err := net.FileListener(file)
	peer.Check(err)
	defer listener.Close()
	peer.ListeningOn(listener.Addr())
	return gnet.None
}

// conversation is the state of a connection between calls.
type conversation struct {
	calls   *peer.Calls
	answers []byte
	// The size in bytes of the incomplete frame, if its header is complete. With fewer bytes there is
	// nothing to do, and a peek at them would copy them.
	wanted int
}

func (s *server) OnOpen(conn gnet.Conn) ([]byte, gnet.Action) {
	conn.SetContext(&conversation{calls: peer.CallsOf(s.kind)})
	return nil, gnet.None
}

func (s *server) OnTraffic(conn gnet.Conn) gnet.Action {
	with := conn.Context().(*conversation)
	if conn.InboundBuffered() < with.wanted {
		return gnet.None
	}
	// All available bytes; none is not an error.
	input, _ := conn.Peek(-1)
	taken, answers := len(input), input
	if s.kind != peer.Echo {
		var err error
		taken, answers, err = with.calls.Answer(input, with.answers[:0])
		if err != nil {
			return gnet.Close
		}
		with.answers = answers
		with.wanted, _, _ = peer.FrameLength(input[taken:])
	}
	if taken == 0 {
		// Discard takes 0 for all bytes.
		return gnet.None
	}
	if _, err := conn.Write(answers); err != nil {
		return gnet.Close
	}
	if _, err := conn.Discard(taken); err != nil {
		return gnet.Close
	}
	return gnet.None
}
