// SPDX-License-Identifier: MIT OR Apache-2.0

// The peer of `netpoll serve mux` and `netpoll load mux --ids`: the same protocol with Go netpoll,
// its mux queue on both sides, a goroutine for each request, as in its own examples.
//
//	mux-go serve
//	mux-go load ADDR CONNECTIONS DEPTH SIZE SECONDS
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"
	"github.com/cloudwego/netpoll/mux"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = serve()
	case len(os.Args) == 7 && os.Args[1] == "load":
		err = load(os.Args[2], number(3), number(4), number(5), number(6))
	default:
		err = fmt.Errorf("serve, or load ADDR CONNECTIONS DEPTH SIZE SECONDS")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(at int) int {
	n, err := strconv.Atoi(os.Args[at])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}

type queueKey struct{}

func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	wrapped, err := netpoll.ConvertListener(listener)
	if err != nil {
		return err
	}
	prepare := func(conn netpoll.Connection) context.Context {
		queue := mux.NewShardQueue(mux.ShardSize, conn)
		return context.WithValue(context.Background(), queueKey{}, queue)
	}
	loop, err := netpoll.NewEventLoop(handle, netpoll.WithOnPrepare(prepare))
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", wrapped.Addr())
	return loop.Serve(wrapped)
}

// handle answers every complete request, each in its own goroutine.
func handle(ctx context.Context, conn netpoll.Connection) error {
	queue := ctx.Value(queueKey{}).(*mux.ShardQueue)
	return each(conn.Reader(), func(frame netpoll.Reader, length int) {
		go func() {
			body, _ := frame.Next(length)
			answer := netpoll.NewLinkBuffer(length + 4)
			head, _ := answer.Malloc(4 + length)
			binary.BigEndian.PutUint32(head, uint32(length))
			copy(head[4:], body)
			answer.Flush()
			frame.Release()
			queue.Add(func() (netpoll.Writer, bool) { return answer, false })
		}()
	})
}

// each passes on the complete frames of reader, without their lengths, and waits for the first.
func each(reader netpoll.Reader, take func(frame netpoll.Reader, length int)) error {
	for first := true; first || reader.Len() >= 4; first = false {
		head, err := reader.Peek(4)
		if err != nil {
			return err
		}
		length := int(binary.BigEndian.Uint32(head))
		if !first && reader.Len() < 4+length {
			return nil
		}
		if err := reader.Skip(4); err != nil {
			return err
		}
		frame, err := reader.Slice(length)
		if err != nil {
			return err
		}
		take(frame, length)
	}
	return nil
}

type calls struct {
	sync.Mutex
	pending map[uint64]chan int
	next    uint64
}

func load(addr string, connections, depth, size, seconds int) error {
	warm := time.Now().Add(500 * time.Millisecond)
	end := warm.Add(time.Duration(seconds) * time.Second)
	var all [][]int64
	var group sync.WaitGroup
	for c := 0; c < connections; c++ {
		conn, err := netpoll.DialConnection("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		under := &calls{pending: make(map[uint64]chan int)}
		conn.SetOnRequest(func(ctx context.Context, conn netpoll.Connection) error {
			return each(conn.Reader(), func(frame netpoll.Reader, length int) {
				head, _ := frame.Next(8)
				id := binary.BigEndian.Uint64(head)
				frame.Release()
				under.Lock()
				caller := under.pending[id]
				delete(under.pending, id)
				under.Unlock()
				if caller != nil {
					caller <- length
				}
			})
		})
		queue := mux.NewShardQueue(mux.ShardSize, conn)
		for d := 0; d < depth; d++ {
			times := make([]int64, 0, 1<<16)
			all = append(all, nil)
			at := len(all) - 1
			group.Add(1)
			go func() {
				defer group.Done()
				answer := make(chan int, 1)
				for {
					since := time.Now()
					if !since.Before(end) {
						break
					}
					id := atomic.AddUint64(&under.next, 1)
					under.Lock()
					under.pending[id] = answer
					under.Unlock()
					request := netpoll.NewLinkBuffer(size + 4)
					head, _ := request.Malloc(4 + size)
					binary.BigEndian.PutUint32(head, uint32(size))
					binary.BigEndian.PutUint64(head[4:], id)
					request.Flush()
					queue.Add(func() (netpoll.Writer, bool) { return request, false })
					if <-answer != size {
						panic("an answer of another length")
					}
					if since.After(warm) {
						times = append(times, int64(time.Since(since)))
					}
				}
				all[at] = times
			}()
		}
	}
	group.Wait()
	var sum []int64
	for _, times := range all {
		sum = append(sum, times...)
	}
	sort.Slice(sum, func(a, b int) bool { return sum[a] < sum[b] })
	at := func(q float64) float64 { return float64(sum[int(q*float64(len(sum)-1))]) / 1e3 }
	fmt.Printf("{\"requests_per_second\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"procs\":%d}\n",
		float64(len(sum))/float64(seconds), at(0.5), at(0.99), runtime.GOMAXPROCS(0))
	return nil
}
