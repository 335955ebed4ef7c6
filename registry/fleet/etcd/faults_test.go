package etcd

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// TestFaults: what a cluster of three has is right again within the lease's time and two seconds
// after each fault of its members, and a host that died in the meantime is not in it.
func TestFaults(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{Members: 3})
	c := cluster.Client()
	h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
	h.has("x", "y")
	eventually(t, right, c, "hosts a, x ready, y ready")
	t.Run("the_leader_is_killed", func(t *testing.T) {
		leader := cluster.Leader(c)
		cluster.Kill(leader)
		h.has("x!", "y")
		eventually(t, right+longestAway, c, "hosts a, x backoff, y ready")
		cluster.Run(leader)
	})
	t.Run("the_leader_hangs", func(t *testing.T) {
		settled(t, cluster, c)
		leader := cluster.Leader(c)
		cluster.Stop(leader)
		defer cluster.Continue(leader)
		h.has("x", "y")
		eventually(t, right+longestAway+requestTime, c, "hosts a, x ready, y ready")
	})
	t.Run("one_member_after_another_is_replaced", func(t *testing.T) {
		for i := range 3 {
			settled(t, cluster, c)
			cluster.Kill(i)
			time.Sleep(time.Second)
			cluster.Run(i)
		}
		settled(t, cluster, c)
		h.has("x", "y!")
		eventually(t, right+longestAway, c, "hosts a, x ready, y backoff")
	})
	t.Run("no_quorum_and_a_pool_is_removed", func(t *testing.T) {
		settled(t, cluster, c)
		leader := cluster.Leader(c)
		others := []int{(leader + 1) % 3, (leader + 2) % 3}
		for _, i := range others {
			cluster.Kill(i)
		}
		h.has("x!")
		time.Sleep(2 * ttl)
		for _, i := range others {
			cluster.Run(i)
		}
		settled(t, cluster, c)
		eventually(t, right+longestAway, c, "hosts a, x backoff")
	})
	t.Run("history_is_compacted", func(t *testing.T) {
		h.has("x")
		eventually(t, right, c, "hosts a, x ready")
		resp, err := c.Get(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		h.has("x", "z")
		eventually(t, right, c, "hosts a, x ready, z ready")
	})
	t.Run("a_host_that_died_without_a_quorum_vanishes", func(t *testing.T) {
		leader := cluster.Leader(c)
		cluster.Kill((leader + 1) % 3)
		cluster.Kill((leader + 2) % 3)
		h.close()
		cluster.Run((leader + 1) % 3)
		cluster.Run((leader + 2) % 3)
		settled(t, cluster, c)
		// a new leader lets each lease begin again
		eventually(t, 2*right, c, "")
	})
}

// settled waits until each member answers by itself, and one leads.
func settled(t *testing.T, cluster *etcd.Cluster, c *clientv3.Client) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cluster.Settled(c); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("etcd has no leader that all members know")
		}
	}
}
