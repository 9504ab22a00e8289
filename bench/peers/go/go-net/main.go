// SPDX-License-Identifier: MIT OR Apache-2.0

// A server with Go's net: a goroutine for each connection, with blocking reads and writes, as in
// the package's documentation.
//
// Optimizations beyond that: reused buffers of 64 KiB, and one Write for the responses to one Read.
// The proxy is io.Copy, which splices between two TCP connections.
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
			// Probably out of descriptors; closing connections frees some.
			time.Sleep(10 * time.Millisecond)
		default:
			go serve(conn.(*net.TCPConn), options)
		}
	}
}

// serve returns when its connection ends; the reason is not an error of the server.
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
			// Space for the rest of a large frame, so that it arrives in few reads.
			input = append(input, make([]byte, length-len(input))...)
		}
		if _, err := conn.Write(answers); err != nil {
			return err
		}
	}
}

// proxy closes each direction after the forwarded bytes.
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
