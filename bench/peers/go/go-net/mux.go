// SPDX-License-Identifier: MIT OR Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"

	"netpoll-peers/peer"
)

// inFlight is the maximum number of unwritten responses of a connection.
const inFlight = 1024

// mux has a goroutine for each request, and one that writes the responses of a channel: all
// available ones, and then a flush.
func mux(conn *net.TCPConn) error {
	answers := make(chan []byte, inFlight)
	ended := make(chan struct{})
	defer close(ended)
	go write(conn, answers, ended)
	reader := bufio.NewReaderSize(conn, peer.Buffer)
	header := make([]byte, peer.Header)
	for {
		if _, err := io.ReadFull(reader, header); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(header)
		if length > peer.MaxFrame {
			return peer.ErrTooLong
		}
		request := make([]byte, length)
		if _, err := io.ReadFull(reader, request); err != nil {
			return err
		}
		go func() {
			answer := binary.BigEndian.AppendUint32(make([]byte, 0, peer.Header+len(request)), length)
			select {
			case answers <- append(answer, request...):
			case <-ended:
			}
		}()
	}
}

func write(conn *net.TCPConn, answers <-chan []byte, ended <-chan struct{}) {
	writer := bufio.NewWriterSize(conn, peer.Buffer)
	for {
		select {
		case answer := <-answers:
			_, _ = writer.Write(answer)
		case <-ended:
			return
		}
		for more := true; more; {
			select {
			case answer := <-answers:
				_, _ = writer.Write(answer)
			default:
				more = false
			}
		}
		// After one error a writer always fails; the reader then also sees the end.
		if writer.Flush() != nil {
			_ = conn.Close()
			return
		}
	}
}
