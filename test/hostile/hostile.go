// Package hostile has clients that try to keep others from a server: they hold its connections
// without using them, or use them without end. It knows HTTP and nothing of the product.
package hostile

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// again is the pause before a connection that was closed or refused is opened again.
const again = 2 * time.Millisecond

// Kind is a way to hold a connection.
type Kind struct {
	Name string
	hold func(context.Context, net.Conn) error // until the connection ends
}

// Kinds returns every kind of client.
func Kinds() []Kind {
	return []Kind{
		{"idle", idle},
		{"keep_alive", keepAlive},
		{"a_byte_a_second", trickle},
		{"events_never_read", unread},
		{"endless_body", endless},
		{"many_connections", many},
	}
}

// Run has n clients attack a server until ctx ends, of each kind in turn, and returns how many
// connections they opened. Each tries to hold that many at a time.
func Run(ctx context.Context, n, each int, dial func(context.Context) (net.Conn, error)) (opened int64) {
	var all sync.WaitGroup
	var count atomic.Int64
	kinds := Kinds()
	for client := range n {
		k := kinds[client%len(kinds)]
		for range each {
			all.Go(func() {
				for ctx.Err() == nil {
					if c, err := dial(ctx); err == nil {
						count.Add(1)
						stop := context.AfterFunc(ctx, func() { c.Close() })
						_ = k.hold(ctx, c) // it ends when the server closes it: that is what is tried
						stop()
						c.Close()
					}
					sleep(ctx, again)
				}
			})
		}
	}
	all.Wait()
	return count.Load()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// idle sends nothing.
func idle(_ context.Context, c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// keepAlive asks again and again over one connection.
func keepAlive(ctx context.Context, c net.Conn) error {
	r := bufio.NewReader(c)
	for ctx.Err() == nil {
		if _, err := io.WriteString(c, "GET /v1/pools HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		sleep(ctx, again)
	}
	return nil
}

// trickle sends a header one byte a second.
func trickle(ctx context.Context, c net.Conn) error {
	if _, err := io.WriteString(c, "GET /v1/pools HTTP/1.1\r\nHost: localhost\r\nX-Long: "); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := io.WriteString(c, "a"); err != nil {
			return err
		}
		sleep(ctx, time.Second)
	}
	return nil
}

// unread opens a stream of events and reads nothing of it.
func unread(ctx context.Context, c net.Conn) error {
	if _, err := io.WriteString(c, "GET /v1/events?replay=true HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	for ctx.Err() == nil {
		sleep(ctx, time.Second)
		if _, err := io.WriteString(c, "x"); err != nil { // closed by the server
			return err
		}
	}
	return nil
}

// endless sends a body without an end.
func endless(ctx context.Context, c net.Conn) error {
	if _, err := io.WriteString(c, "POST /v1/pools/x/status HTTP/1.1\r\nHost: localhost\r\n"+
		"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := fmt.Fprintf(c, "1\r\n \r\n"); err != nil {
			return err
		}
		sleep(ctx, 100*time.Millisecond)
	}
	return nil
}

// many opens connections as fast as it can, and asks once over each.
func many(_ context.Context, c net.Conn) error {
	const request = "GET /v1/pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}
