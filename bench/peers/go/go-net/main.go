// SPDX-License-Identifier: MIT OR Apache-2.0

// A server with Go's net: a goroutine for each connection that reads and writes as if it blocked, as the
// package's documentation has it.
//
// What a knowing user does beyond that: buffers of 64 KiB that are used again, and one Write for all that
// one Read brought. The proxy is io.Copy, which splices between two TCP connections.
package main

import (
	"errors"
	"io"
	"net"
	"time"

	"netpoll-peers/peer"
)

func main() {
	options := peer.Parse([]string{peer.Echo, peer.RPC, peer.Mux, peer.Heavy, peer.Proxy}, nil)
	listener, err := net.Listen("tcp", options.Addr)
	peer.Check(err)
	peer.ListeningOn(listener.Addr())
	for {
		conn, err := listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of descriptors, most likely. Some come back.
			time.Sleep(10 * time.Millisecond)
		default:
			go serve(conn.(*net.TCPConn), options)
		}
	}
}

// serve ends with its connection; how that ends is between it and its peer.
func serve(conn *net.TCPConn, options peer.Options) {
	defer conn.Close()
	switch options.Kind {
	case peer.Echo:
		_ = echo(conn)
	case peer.Mux:
		_ = mux(conn)
	case peer.Proxy:
		_ = proxy(conn, options.To)
	default:
		_ = rpc(conn, peer.CallsOf(options.Kind))
	}
}

func echo(conn *net.TCPConn) error {
	buffer := make([]byte, peer.Buffer)
	for {
		count, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buffer[:count]); err != nil {
			return err
		}
	}
}

func rpc(conn *net.TCPConn, calls *peer.Calls) error {
	input, unread := make([]byte, peer.Buffer), 0
	answers := make([]byte, 0, peer.Buffer)
	for {
		count, err := conn.Read(input[unread:])
		if err != nil {
			return err
		}
		unread += count
		taken, all, err := calls.Answer(input[:unread], answers[:0])
		if err != nil {
			return err
		}
		answers = all
		unread = copy(input, input[taken:unread])
		if length, known, _ := peer.FrameLength(input[:unread]); known && length > len(input) {
			// Room for the rest of a large frame, so that it comes with few reads.
			input = append(input, make([]byte, length-len(input))...)
		}
		if _, err := conn.Write(answers); err != nil {
			return err
		}
	}
}

// proxy ends each way behind what was passed on.
func proxy(client *net.TCPConn, to string) error {
	conn, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	server := conn.(*net.TCPConn)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(client, server)
		_ = client.CloseWrite()
		done <- err
	}()
	if _, err := io.Copy(server, client); err != nil {
		return err
	}
	_ = server.CloseWrite()
	return <-done
}
