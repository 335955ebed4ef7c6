package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreamsTakeNoBody: net/http does not notice the end of a connection before the request's
// body, so that a stream with one would outlive its reader.
func TestStreamsTakeNoBody(t *testing.T) {
	h := serve(t, Settings{}, units{})
	for name, request := range map[string]string{
		"expect_continue":  "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
		"unfinished":       "Content-Length: 5\r\n\r\nab",
		"chunked_expect":   "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
		"a_broken_chunk":   "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		"chunks_that_wait": "Transfer-Encoding: chunked\r\n\r\n1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("unix", h.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\n"+request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusBadRequest || !resp.Close {
				t.Fatalf("%+v %v", resp, err)
			}
			resp.Body.Close()
			if n := h.server.streams.size(); n != 0 {
				t.Errorf("%d streams are open", n)
			}
		})
	}
	t.Run("an_empty_body_is_none", func(t *testing.T) {
		c, err := net.Dial("unix", h.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: "+
			"100-continue\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%+v %v", resp, err)
		}
		c.Close()
		h.waitStreams(0)
	})
}

// waitStreams waits until so many streams are open.
func (h *host) waitStreams(want int) {
	h.t.Helper()
	for range 4000 {
		if h.server.streams.size() == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Errorf("%d streams are open, want %d", h.server.streams.size(), want)
}

// TestAStreamEndsWithItsReader: at once, and where the reader sent more than its request, which
// ends net/http's watch of the connection, at the first write that fails.
func TestAStreamEndsWithItsReader(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, more := range []string{"", "GET /health"} {
			t.Run(fmt.Sprintf("%s_%d_bytes_more", network, len(more)), func(t *testing.T) {
				h := newServer(t, Settings{AuthOptional: true}, units{})
				unit := newSocketUnit(t, network)
				h.run(unit.listener())
				c, err := net.Dial(network, unit.addr.String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				fmt.Fprintf(c, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
				until(t, bufio.NewReader(c), ": pool-managerd")
				h.waitStreams(1)
				if _, err := io.WriteString(c, more); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond) // so that the byte is read before the end
				c.Close()
				if more != "" { // TCP reports the end to the second write
					for n := range 200 {
						h.note("a", n)
						if time.Sleep(5 * time.Millisecond); h.server.streams.size() == 0 {
							break
						}
					}
				}
				h.waitStreams(0)
			})
		}
	}
}

// TestAStreamEndsByItsHeartbeat: where nothing happens at all.
func TestAStreamEndsByItsHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, h *host, p *pipes) {
		ours, theirs := net.Pipe()
		p.dialled <- loopbackPipe{theirs}
		go fmt.Fprintf(ours, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\nX")
		until(t, bufio.NewReader(ours), ": pool-managerd")
		synctest.Wait()
		ours.Close()
		time.Sleep(heartbeat + streamWrite)
		synctest.Wait()
		if n := h.server.streams.size(); n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
}

// TestStreamsOfOneUser: a user that may only read has its limit, and root's streams have room.
func TestStreamsOfOneUser(t *testing.T) {
	h := openToAll(t, Settings{}, func(s *Server) { s.streams.limits = limits{all: 8, ordinary: 6, each: 4} })
	d := asUser(t.Context(), t, 61300, "unix", h.socket)
	follow := func(want int) net.Conn {
		t.Helper()
		c, err := d.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_, _ = io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%+v %v, want %d", resp, err, want)
		}
		return c
	}
	var last net.Conn
	for range 4 {
		last = follow(200)
	}
	follow(http.StatusTooManyRequests)
	h.logged("too many event streams are open", `"identity":"uid:61300"`)
	h.manyStreams(t, 4) // root's
	last.Close()
	h.waitStreams(7)
	follow(200)
}
