package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

const (
	machineID = "0123456789abcdef0123456789abcdef"
	ttl       = 3 * time.Second
	// right is how long after a fault what etcd has is true, as documented. A busy host takes
	// longer, and that is logged.
	right    = ttl + 2*time.Second
	patience = time.Minute
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// note adds a line, with the time.
func (l *lines) note(format string, args ...any) {
	_, _ = fmt.Fprintf(l, "%s %s\n", time.Now().Format(clock), fmt.Sprintf(format, args...)) // it takes all
}

// clock is how times are logged that are compared with each other.
const clock = "15:04:05.000"

// host is a publisher that runs.
type host struct {
	*Publisher
	box   fleet.Mailbox
	log   *lines
	end   context.CancelFunc
	ended chan struct{}
}

func testOptions(endpoints []string, boot string, log *lines) Options {
	return Options{Endpoints: endpoints, Prefix: "/test", TTL: ttl,
		Host: fleet.Host{MachineID: machineID, BootID: boot, Name: "name-of-" + boot,
			Address: "https://" + boot + ":9200"},
		Log: slog.New(slog.NewTextHandler(log, nil)), Status: func(string) {}}
}

func runs(t *testing.T, o Options) *host {
	h := &host{Publisher: New(o), box: fleet.NewMailbox(), ended: make(chan struct{})}
	h.log = &lines{}
	h.o.Log = slog.New(slog.NewTextHandler(h.log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	h.end = cancel
	go func() {
		defer close(h.ended)
		h.Run(ctx, h.box)
	}()
	t.Cleanup(func() {
		h.close()
		if t.Failed() {
			t.Logf("log of %s:\n%s", o.Host.BootID, h.log)
		}
	})
	return h
}

// close ends the process without taking the host back.
func (h *host) close() {
	h.end()
	<-h.ended
	h.Close()
}

// has reports pools as the manager does: "id" is ready, "id!" is not, "id=3" has free slots.
func (h *host) has(pools ...string) { h.box.Put(state(pools...)) }

func state(pools ...string) fleet.State {
	s := fleet.State{Known: true}
	for _, p := range pools {
		id, free, _ := strings.Cut(strings.TrimSuffix(p, "!"), "=")
		w := wire.Pool{ID: id, State: "ready", Ready: true, SlotsTotal: 8}
		if strings.HasSuffix(p, "!") {
			w.State, w.Ready = "backoff", false
		}
		if free != "" {
			_, _ = fmt.Sscan(free, &w.SlotsFree) // 0 is seen
		}
		s.Pools = append(s.Pools, w)
	}
	return s
}

// content is what etcd has: "boot-a: id ready, id backoff", and conflicts.
func content(t *testing.T, c *clientv3.Client) string {
	t.Helper()
	return contentWithin(t, c, 5*time.Second)
}

// contentWithin is content, or the error of a question that had some time.
func contentWithin(t *testing.T, c *clientv3.Client, d time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	resp, err := c.Get(ctx, "/test/", clientv3.WithPrefix())
	if err != nil {
		return err.Error()
	}
	var all []string
	leases := map[string]int64{} // of hosts
	for _, kv := range resp.Kvs {
		parts := strings.Split(string(kv.Key), "/")
		if lease, known := leases[parts[3]]; parts[2] != "conflicts" && known && lease != kv.Lease {
			all = append(all, "two leases of "+parts[3])
		} else if parts[2] != "conflicts" {
			leases[parts[3]] = kv.Lease
		}
		switch parts[2] {
		case "pools":
			var p record.Pool
			if err := json.Unmarshal(kv.Value, &p); err != nil {
				t.Fatal(err)
			}
			all = append(all, p.ID+" "+p.State)
		case "models":
			m, err := record.DecodeModels(kv.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("models %d", len(m.Models)))
		default:
			h, err := record.DecodeHost(kv.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, parts[2]+" "+h.BootID)
		}
		if kv.Lease == 0 {
			t.Errorf("%s has no lease", kv.Key)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func eventually(t *testing.T, within time.Duration, c *clientv3.Client, want string) {
	t.Helper()
	begun := time.Now()
	for {
		got, took := content(t, c), time.Since(begun)
		switch {
		case got == want:
			if took > within {
				t.Logf("%q took %s instead of %s", want, took.Round(time.Millisecond), within)
			}
			return
		case took > patience:
			t.Fatalf("after %s etcd has %q, want %q", took, got, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func stays(t *testing.T, d time.Duration, c *clientv3.Client, want string) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got := content(t, c); got != want {
			t.Fatalf("etcd has %q, want %q all the time", got, want)
		}
	}
}

// withEtcd is a subtest with an etcd of its own.
func withEtcd(t *testing.T, name string, test func(*testing.T, *etcd.Cluster, *clientv3.Client)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		cluster := etcd.Start(t, etcd.Options{})
		test(t, cluster, cluster.Client())
	})
}

// TestRealEtcd: what a real etcd has is what the manager reported, over each end of a process and
// each loss that one host can have.
func TestRealEtcd(t *testing.T) {
	t.Parallel()
	withEtcd(t, "changes_and_the_end", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		stays(t, 300*time.Millisecond, c, "") // nothing is known yet
		h.has("x", "y!")
		eventually(t, right, c, "hosts a, x ready, y backoff")
		h.has("x!", "z")
		eventually(t, right, c, "hosts a, x backoff, z ready")
		h.box.Put(fleet.State{}) // a manager that does not answer
		eventually(t, right, c, "")
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		h.end()
		<-h.ended
		h.Leave(t.Context())
		eventually(t, time.Second, c, "")
	})
	withEtcd(t, "a_killed_process_is_followed_by_the_next", func(t *testing.T, cluster *etcd.Cluster,
		c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x", "y")
		eventually(t, right, c, "hosts a, x ready, y ready")
		h.close()
		next := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		next.has("x!") // y was removed in between
		eventually(t, right, c, "hosts a, x backoff")
		stays(t, right, c, "hosts a, x backoff") // the former lease ends, with nothing bound to it
	})
	withEtcd(t, "a_host_that_died_vanishes", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		h.close()
		eventually(t, right, c, "")
	})
	withEtcd(t, "a_reboot_waits_for_the_former_lease", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		h.close()
		next := runs(t, testOptions(cluster.Endpoints(), "b", nil))
		next.has("y")
		eventually(t, right+formerBoot, c, "hosts b, y ready")
		if strings.Contains(next.log.String(), "ERROR") {
			t.Error("a reboot is taken for a conflict")
		}
	})
	withEtcd(t, "two_hosts_with_one_machine_id", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		clone := runs(t, testOptions(cluster.Endpoints(), "b", nil))
		clone.has("x!", "y")
		eventually(t, 2*right, c, "conflicts b, hosts a, x ready")
		stays(t, right, c, "conflicts b, hosts a, x ready")
		if log := clone.log.String(); strings.Count(log, "ERROR") != 1 ||
			!strings.Contains(log, "systemd-machine-id-setup") {
			t.Error("the conflict is not logged once, with what to do")
		}
		h.end()
		<-h.ended
		h.Leave(t.Context())
		eventually(t, right, c, "conflicts b, hosts b, x backoff, y ready")
	})
	withEtcd(t, "two_processes_of_one_boot", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		other := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		other.has("y")
		eventually(t, right, c, "hosts a, y ready")
		h.has("x!")
		eventually(t, 3*right, c, "conflicts a, hosts a, y ready")
	})
	withEtcd(t, "a_lease_revoked_by_hand", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		revokeAll(t, c)
		eventually(t, right, c, "hosts a, x ready")
	})
	withEtcd(t, "keys_deleted_by_hand", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		if _, err := c.Delete(t.Context(), "/test/", clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		h.has("x", "y") // noticed at the next write
		eventually(t, right, c, "hosts a, x ready, y ready")
	})
	withEtcd(t, "models_are_there_with_the_host", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		s := state("x")
		h.box.Put(s)
		eventually(t, right, c, "hosts a, x ready")
		s.Models = []wire.CachedModel{{Model: "hf:a/b", Files: 1}}
		h.box.Put(s)
		eventually(t, right, c, "hosts a, models 1, x ready")
		h.close()
		next := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		s.Models = []wire.CachedModel{}
		next.box.Put(s)
		eventually(t, right, c, "hosts a, models 0, x ready")
		stays(t, right, c, "hosts a, models 0, x ready") // the former lease ends, with nothing bound to it
		next.end()
		<-next.ended
		next.Leave(t.Context())
		eventually(t, time.Second, c, "")
	})
	withEtcd(t, "more_pools_than_a_transaction_takes", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		var ids, want []string
		for i := range 250 {
			ids = append(ids, fmt.Sprintf("p%03d", i))
			want = append(want, fmt.Sprintf("p%03d ready", i))
		}
		h.has(ids...)
		eventually(t, right, c, "hosts a, "+strings.Join(want, ", "))
		h.close()
		next := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		next.has("p000")
		eventually(t, right, c, "hosts a, p000 ready")
	})
	withEtcd(t, "etcd_is_away_and_a_pool_is_removed", func(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
		h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
		h.has("x", "y")
		eventually(t, right, c, "hosts a, x ready, y ready")
		cluster.Kill(0)
		h.has("x!")
		time.Sleep(right)
		cluster.Run(0)
		eventually(t, right+longestAway, cluster.Client(), "hosts a, x backoff")
	})
}

func revokeAll(t *testing.T, c *clientv3.Client) {
	t.Helper()
	leases, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		// one may have ended meanwhile
		if _, err := c.Revoke(t.Context(), l.ID); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Fatal(err)
		}
	}
}
