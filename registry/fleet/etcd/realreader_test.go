package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// watching is a reader that runs, with the view of its changes alone.
type watching struct {
	mu    sync.Mutex
	set   *view.Set
	seen  map[string]string // hosts, pools and conflicts, by what changes said
	lost  []error
	lists int
	end   context.CancelFunc
	ended chan struct{}
}

func watches(t *testing.T, endpoints []string) *watching {
	t.Helper()
	w := &watching{set: view.New("/test"), seen: map[string]string{}, ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	w.end = cancel
	r := NewReader(Options{Endpoints: endpoints, Prefix: "/test"})
	go func() {
		defer close(w.ended)
		r.Watch(ctx, w.take)
	}()
	t.Cleanup(w.close)
	return w
}

func (w *watching) close() {
	w.end()
	<-w.ended
}

func (w *watching) take(b view.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch b.Kind {
	case view.Lost:
		w.lost = append(w.lost, b.Err)
	case view.End:
		w.lists++
	}
	for _, c := range w.set.Apply(b) {
		key, text := "hosts "+c.MachineID, ""
		switch {
		case c.PoolID != "":
			key = "pool " + c.MachineID + c.PoolID
		case c.BootID != "":
			key = "conflicts " + c.MachineID + c.BootID
		}
		switch {
		case c.Gone:
			delete(w.seen, key)
			continue
		case c.Pool != nil:
			text = c.PoolID + " " + c.Pool.State
		case c.Host != nil:
			text = "hosts " + c.Host.BootID
		default:
			text = "conflicts " + c.BootID
		}
		w.seen[key] = text
	}
}

func (w *watching) view() wire.FleetPools {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.set.Pools()
}

// content is what the view has, in the form that content of etcd has.
func (w *watching) content() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, text := range w.seen {
		all = append(all, text)
	}
	slices.Sort(all)
	v := w.set.Pools()
	if n := len(v.Pools) + len(v.Hosts) + len(v.Conflicts); n != len(all) {
		return fmt.Sprintf("%d in the view, and %d by its changes", n, len(all))
	}
	return strings.Join(all, ", ")
}

func (w *watching) sees(t *testing.T, within time.Duration, want string) {
	t.Helper()
	begun := time.Now()
	for {
		got, took := w.content(), time.Since(begun)
		switch {
		case got == want:
			if took > within {
				t.Logf("%q took %s instead of %s", want, took.Round(time.Millisecond), within)
			}
			return
		case took > patience:
			t.Fatalf("after %s the view has %q, want %q", took, got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *watching) count() (lists int, lost []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lists, slices.Clone(w.lost)
}

// TestRealReader: a reader has what hosts publish in a real etcd, over what happens to both.
func TestRealReader(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{})
	c := cluster.Client()
	w := watches(t, cluster.Endpoints())
	h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
	t.Run("pools_of_a_host", func(t *testing.T) {
		h.has("x", "y!")
		w.sees(t, right, "hosts a, x ready, y backoff")
		h.has("x!", "z")
		w.sees(t, right, "hosts a, x backoff, z ready")
	})
	t.Run("a_quiet_watch_stays", func(t *testing.T) {
		before, _ := w.count()
		time.Sleep(silence + 2*quiet)
		if lists, lost := w.count(); lists != before {
			t.Errorf("a watch of a fleet in which nothing happens ended: %v", lost)
		}
	})
	t.Run("a_cloned_host", func(t *testing.T) {
		clone := runs(t, testOptions(cluster.Endpoints(), "b", nil))
		clone.has("q")
		w.sees(t, 2*right, "conflicts b, hosts a, x backoff, z ready")
		clone.close()
		w.sees(t, 3*right, "hosts a, x backoff, z ready")
	})
	t.Run("more_pools_than_a_page", func(t *testing.T) {
		var ids []string
		want := "hosts a"
		for i := range 2*pageKeys + 50 {
			ids = append(ids, fmt.Sprintf("p%03d", i))
			want += fmt.Sprintf(", p%03d ready", i)
		}
		other := testOptions(cluster.Endpoints(), "a", nil)
		h.close()
		many := runs(t, other)
		many.has(ids...)
		w.sees(t, 4*right, want)
		set, err := NewReader(Options{Endpoints: cluster.Endpoints(), Prefix: "/test"}).List(t.Context())
		if err != nil || len(set.Pools().Pools) != len(ids) || !set.Complete() {
			t.Fatalf("a list has %v, %v", set, err)
		}
		many.close()
		w.sees(t, right, "") // the host died
	})
	t.Run("keys_that_belong_to_no_host", func(t *testing.T) {
		for _, key := range []string{"/test/pools/" + machineID + "/x", "/test/other", "/test2/hosts/a"} {
			if _, err := c.Put(t.Context(), key, `{"schema":1,"id":"x"}`); err != nil {
				t.Fatal(err)
			}
		}
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil)) // deletes what it does not have
		h.has("y")
		w.sees(t, right, "hosts a, y ready")
		h.close()
		w.sees(t, right, "")
	})
	t.Run("a_host_that_comes_back_under_another_address", func(t *testing.T) {
		o := testOptions(cluster.Endpoints(), "a", nil)
		before := runs(t, o)
		before.has("x")
		w.sees(t, right, "hosts a, x ready")
		before.close()
		o.Host.Address = "https://moved:9200"
		next := runs(t, o)
		next.has("x")
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			v := w.view()
			if len(v.Hosts) == 1 && len(v.Pools) == 1 && v.Hosts[0].Address == o.Host.Address &&
				v.Pools[0].Address == o.Host.Address {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the view has %+v", v)
			}
		}
		next.close()
		w.sees(t, right, "")
	})
	t.Run("etcd_is_away_and_hosts_change", func(t *testing.T) {
		next := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		next.has("x", "y")
		w.sees(t, right, "hosts a, x ready, y ready")
		cluster.Kill(0)
		next.has("y!")
		time.Sleep(silence + quiet)
		_, lost := w.count()
		if len(lost) == 0 {
			t.Error("nothing was reported as lost")
		}
		cluster.Run(0)
		w.sees(t, right+longestAway, "hosts a, y backoff")
	})
}

// TestCompaction: history that is gone ends a watch with that reason, and a list in pages too.
func TestCompaction(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{})
	c := cluster.Client()
	var last int64
	for range 5 {
		put, err := c.Put(t.Context(), "/test/x", "1")
		if err != nil {
			t.Fatal(err)
		}
		last = put.Header.Revision
	}
	if _, err := c.Compact(t.Context(), last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	f, err := dialSource(Options{Endpoints: cluster.Endpoints(), Prefix: "/test"}, requestTime)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	err = f.watch(t.Context(), 2, func(b view.Batch) { t.Errorf("delivered %+v", b) })
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("the watch ended with %v", err)
	}
	if _, err := f.(*source).page(t.Context(), "/test/", "/test0", 2); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("the list ended with %v", err)
	}
}

// TestReaderIsCutOff: a reader whose connection breaks or carries nothing reports that in time, and
// is right again afterwards, also where history was compacted meanwhile.
func TestReaderIsCutOff(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{})
	c := cluster.Client()
	line := newCable(t, cluster.Endpoints()[0])
	w := watches(t, []string{"http://" + line.Addr().String()})
	h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
	h.has("x", "y")
	w.sees(t, right, "hosts a, x ready, y ready")
	compact := func(t *testing.T) {
		resp, err := c.Put(t.Context(), "/other", "1") // no revision is compacted twice
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a_connection_that_breaks", func(t *testing.T) {
		line.cut()
		h.has("x!", "y")
		w.sees(t, right, "hosts a, x backoff, y ready")
	})
	t.Run("a_connection_that_carries_nothing", func(t *testing.T) {
		_, before := w.count()
		line.stick(true)
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		compact(t)
		for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			if _, lost := w.count(); len(lost) > len(before) {
				if took := time.Since(begun); took > silence+2*quiet {
					t.Logf("the loss was reported after %s", took)
				}
				break
			}
			if time.Since(begun) > patience {
				t.Fatal("the loss was not reported")
			}
		}
		line.cut()
		w.sees(t, right+longestAway, "hosts a, x ready")
	})
	t.Run("history_is_compacted_under_a_watch", func(t *testing.T) {
		compact(t)
		h.has("x", "z")
		w.sees(t, right, "hosts a, x ready, z ready")
	})
}

// TestReaderFaults: a reader of a cluster of three is right again after each fault of its members.
func TestReaderFaults(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{Members: 3})
	c := cluster.Client()
	w := watches(t, cluster.Endpoints())
	h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
	h.has("x", "y")
	w.sees(t, right, "hosts a, x ready, y ready")
	t.Run("the_leader_is_killed", func(t *testing.T) {
		leader := cluster.Leader(c)
		cluster.Kill(leader)
		h.has("x!", "y")
		w.sees(t, right+longestAway, "hosts a, x backoff, y ready")
		cluster.Run(leader)
	})
	for i := range 3 {
		t.Run(fmt.Sprintf("member_%d_hangs", i), func(t *testing.T) {
			settled(t, cluster, c)
			cluster.Stop(i)
			defer cluster.Continue(i)
			h.has("x", fmt.Sprintf("y%d", i))
			w.sees(t, right+silence+longestAway, fmt.Sprintf("hosts a, x ready, y%d ready", i))
		})
	}
	t.Run("no_quorum", func(t *testing.T) {
		settled(t, cluster, c)
		_, before := w.count()
		leader := cluster.Leader(c)
		cluster.Kill((leader + 1) % 3)
		cluster.Kill((leader + 2) % 3)
		for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			if _, lost := w.count(); len(lost) > len(before) {
				break
			}
			if time.Since(begun) > patience {
				t.Fatal("a watch without a leader is taken for one that is up to date")
			}
		}
		cluster.Run((leader + 1) % 3)
		cluster.Run((leader + 2) % 3)
		settled(t, cluster, c)
		h.has("x!")
		w.sees(t, right+2*longestAway, "hosts a, x backoff")
	})
}
