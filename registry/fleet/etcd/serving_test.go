package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// serving asks every member, over a new connection each time, for what a quorum has to confirm. The
// rule for publishers counts from when all of them answer that.
type serving struct {
	mu     sync.Mutex
	failed []time.Time // the last time of each member
}

// probes asks until the test ends.
func probes(t *testing.T, endpoints []string) *serving {
	t.Helper()
	s := &serving{failed: make([]time.Time, len(endpoints))}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i, endpoint := range endpoints {
		all.Go(func() {
			for ctx.Err() == nil {
				if !serves(ctx, endpoint) {
					s.mu.Lock()
					s.failed[i] = time.Now()
					s.mu.Unlock()
				}
				wait(ctx, 200*time.Millisecond)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	return s
}

func serves(ctx context.Context, endpoint string) bool {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = c.Get(ctx, "/", clientv3.WithCountOnly())
	return err == nil
}

// since is the last time that a member did not answer, but one of which that is expected; -1: none.
func (s *serving) since(without int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last time.Time
	for i, failed := range s.failed {
		if i != without && failed.After(last) {
			last = failed
		}
	}
	return last
}

// story is what was there in etcd and at a reader, each time that it changed.
type story struct {
	b        strings.Builder
	in, seen string
}

func (s *story) add(want, in, seen string) {
	if s.b.Len() == 0 {
		fmt.Fprintf(&s.b, "             wanted %q\n", want)
	} else if s.in == in && s.seen == seen {
		return
	}
	s.in, s.seen = in, seen
	fmt.Fprintf(&s.b, "%s etcd   %q\n             reader %q\n", time.Now().Format(clock), in, seen)
}

// String implements fmt.Stringer.
func (s *story) String() string { return s.b.String() }
