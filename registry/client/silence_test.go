package client

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// TestSilence: a request that gets no answer ends in its time, which the error names: what only
// reads in that of reads. So does a stream, before its first line and after it.
func TestSilence(t *testing.T) {
	const short, long = 50 * time.Millisecond, 90 * time.Millisecond
	no := false
	for _, c := range []struct {
		name string
		ask  func(ctx context.Context, c *Client) error
		want time.Duration
	}{
		{"a_read", func(ctx context.Context, c *Client) error {
			_, err := c.GetPools(ctx, GetPoolsParams{})
			return err
		}, short},
		{"a_change", func(ctx context.Context, c *Client) error {
			_, err := c.PostDrain(ctx, "a", wire.DrainRequest{}, PostDrainParams{})
			return err
		}, long},
		{"a_stream_that_does_not_begin", func(ctx context.Context, c *Client) error {
			_, err := c.GetEvents(ctx, GetEventsParams{Kind: "hang"})
			return err
		}, short},
		{"a_stream_that_stops", func(ctx context.Context, c *Client) error {
			s, err := c.GetEvents(ctx, GetEventsParams{Follow: &no})
			if err != nil {
				return err
			}
			defer s.Close()
			if e, err := s.Next(); err != nil || e.ID != "1" {
				t.Errorf("%+v %v", e, err)
			}
			_, err = s.Next()
			return err
		}, short},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			defer close(over)
			o := Options{Timeout: long, ReadTimeout: short}
			client := answering(t, o, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/events" && r.URL.Query().Get("kind") == "" {
					_, _ = w.Write([]byte("id: 1\nevent: ready\ndata: {}\n\n"))
					w.(http.Flusher).Flush()
				}
				select {
				case <-over:
				case <-r.Context().Done():
				}
			})
			err := c.ask(t.Context(), client)
			var silent *Unreachable
			if !errors.As(err, &silent) || silent.Within != c.want || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, %+v", err, silent)
			}
		})
	}
	t.Run("a_caller_that_gives_up_is_not_the_managers_fault", func(t *testing.T) {
		client := answering(t, Options{}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		ctx, cancel := context.WithTimeout(t.Context(), short)
		defer cancel()
		_, err := client.GetPools(ctx, GetPoolsParams{})
		var silent *Unreachable
		if !errors.As(err, &silent) || silent.Within != 0 {
			t.Errorf("%v, %+v", err, silent)
		}
		ctx, give := context.WithCancel(t.Context())
		time.AfterFunc(short, give)
		if _, err := client.GetPools(ctx, GetPoolsParams{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
