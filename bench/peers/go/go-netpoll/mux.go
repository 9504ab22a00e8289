// SPDX-License-Identifier: MIT OR Apache-2.0

package main

import (
	"context"
	"encoding/binary"

	"github.com/cloudwego/netpoll"
	"github.com/cloudwego/netpoll/mux"

	"netpoll-peers/peer"
)

type queueKey struct{}

func prepareQueue(conn netpoll.Connection) context.Context {
	queue := mux.NewShardQueue(mux.ShardSize, conn)
	return context.WithValue(context.Background(), queueKey{}, queue)
}

// answerAside answers every complete request, each in its own goroutine and through the library's
// own response queue.
func answerAside(ctx context.Context, conn netpoll.Connection) error {
	queue := ctx.Value(queueKey{}).(*mux.ShardQueue)
	reader := conn.Reader()
	return each(conn, func(length int) error {
		if err := reader.Skip(peer.Header); err != nil {
			return err
		}
		frame, err := reader.Slice(length - peer.Header)
		if err != nil {
			return err
		}
		go answer(queue, frame, length-peer.Header)
		return nil
	})
}

func answer(queue *mux.ShardQueue, frame netpoll.Reader, length int) {
	buffer := netpoll.NewLinkBuffer(peer.Header + length)
	body, _ := frame.Next(length)
	all, _ := buffer.Malloc(peer.Header + length)
	binary.BigEndian.PutUint32(all, uint32(length))
	copy(all[peer.Header:], body)
	_ = buffer.Flush()
	_ = frame.Release()
	queue.Add(func() (netpoll.Writer, bool) { return buffer, false })
}
