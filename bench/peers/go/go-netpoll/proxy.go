// SPDX-License-Identifier: MIT OR Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/cloudwego/netpoll"
)

type serverKey struct{}

// connectTo dials the upstream for each client. The library has no half-close: when either side
// ends, both do.
func connectTo(to string) netpoll.OnConnect {
	return func(ctx context.Context, client netpoll.Connection) context.Context {
		server, err := netpoll.DialConnection("tcp", to, 5*time.Second)
		if err != nil {
			_ = client.Close()
			return ctx
		}
		_ = server.SetOnRequest(func(_ context.Context, server netpoll.Connection) error {
			return pass(server, client)
		})
		_ = server.AddCloseCallback(func(netpoll.Connection) error { return client.Close() })
		_ = client.AddCloseCallback(func(netpoll.Connection) error { return server.Close() })
		return context.WithValue(ctx, serverKey{}, server)
	}
}

func forward(ctx context.Context, client netpoll.Connection) error {
	server, there := ctx.Value(serverKey{}).(netpoll.Connection)
	if !there {
		return nil
	}
	return pass(client, server)
}
