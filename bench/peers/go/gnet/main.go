// SPDX-License-Identifier: MIT OR Apache-2.0

// A server with gnet: an event handler whose OnTraffic answers what is there, as its README has it.
//
// What a knowing user does beyond that: one Write for all whole requests that are there, in memory that
// is used again, and a read buffer of 64 KiB, as all peers have.
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
	// By itself it says on stdout that it starts, where its address is looked for.
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

// OnBoot says where the engine listens, which it knows as a descriptor.
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

// conversation is what a connection keeps from one call to the next.
type conversation struct {
	calls   *peer.Calls
	answers []byte
	// The bytes of the frame that has begun, if its header has come. With fewer there is nothing to do,
	// and a look at them all would copy them.
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
	// All that is there; it is not an error to have nothing.
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
		// Discard takes 0 for all.
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
