package etcd

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// cable is a connection to etcd that can be cut, or carry nothing without being closed; what was on
// its way then arrives later.
type cable struct {
	net.Listener
	to    string
	mu    sync.Mutex
	stuck bool
	conns []net.Conn
	all   sync.WaitGroup
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: strings.TrimPrefix(to, "http://")}
	ctx, cancel := context.WithCancel(context.Background())
	c.all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			c.all.Go(func() { c.join(ctx, near) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		c.cut()
		c.all.Wait()
	})
	return c
}

// join carries for one client.
func (c *cable) join(ctx context.Context, near net.Conn) {
	defer near.Close()
	d := net.Dialer{Timeout: requestTime} // the member may be cut off
	far, err := d.DialContext(ctx, "tcp", c.to)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { far.Close() })()
	c.mu.Lock()
	c.conns = append(c.conns, near, far)
	c.mu.Unlock()
	c.all.Go(func() { c.carry(near, far) })
	c.carry(far, near)
}

func (c *cable) carry(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		for c.isStuck() {
			time.Sleep(20 * time.Millisecond)
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (c *cable) isStuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck
}

func (c *cable) stick(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = is
}

// cut closes every connection.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = false
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// TestHostIsCutOff: a host whose connection carries nothing vanishes with its lease. When it
// carries again, what is true then is there, and what was on its way does not arrive late.
func TestHostIsCutOff(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{})
	c := cluster.Client()
	line := newCable(t, cluster.Endpoints()[0])
	w := watches(t, cluster.Endpoints())
	h := runs(t, testOptions([]string{"http://" + line.Addr().String()}, "a", nil))
	h.has("x", "y")
	eventually(t, right, c, "hosts a, x ready, y ready")
	for round := range 2 {
		line.stick(true)
		h.has("x!", "z") // is on its way
		eventually(t, right, c, "")
		w.sees(t, right, "")
		last := fmt.Sprintf("z%d", round)
		h.has(last)
		line.stick(false)
		eventually(t, longestAway+requestTime+right, c, "hosts a, "+last+" ready")
		stays(t, time.Second, c, "hosts a, "+last+" ready")
		w.sees(t, right, "hosts a, "+last+" ready")
	}
}

// TestSlowDisk: where each write to etcd's disk takes 0.3 s longer, a host keeps its session.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{Sync: 300 * time.Millisecond})
	c := cluster.Client()
	w := watches(t, cluster.Endpoints())
	h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
	h.has("x")
	eventually(t, right, c, "hosts a, x ready")
	for i := range 10 {
		h.has("x", fmt.Sprintf("y%d", i))
		w.sees(t, right, fmt.Sprintf("hosts a, x ready, y%d ready", i))
	}
	t.Logf("attempts that failed: %d", strings.Count(h.log.String(), "could not publish"))
}

// TestPartitions: where nothing arrives any longer in the network of one member of three, a host
// and a reader are right again, and so when it is back.
func TestPartitions(t *testing.T) {
	t.Parallel()
	switch etcd.OwnNetwork(t) {
	case etcd.Elsewhere:
		return
	case etcd.Without:
		t.Skip("no network namespaces here (root, ip and nsenter are needed): no member is cut off")
	}
	cluster := etcd.Start(t, etcd.Options{Members: 3, Apart: true})
	c := cluster.Client()
	w := watches(t, cluster.Endpoints())
	h := runs(t, testOptions(cluster.Endpoints(), "a", nil))
	h.has("x", "y")
	w.sees(t, right, "hosts a, x ready, y ready")
	n := 0
	for _, cut := range []struct {
		name string
		cut  func(i int)
	}{{"the_others_and_clients", cluster.Cut}, {"the_others_alone", cluster.CutPeers}} {
		for _, whom := range []string{"the_leader", "a_follower"} {
			t.Run(whom+"_is_cut_off_from_"+cut.name, func(t *testing.T) {
				settled(t, cluster, c)
				i := cluster.Leader(c)
				if whom == "a_follower" {
					i = (i + 1) % 3
				}
				cut.cut(i)
				n++
				h.has("x!", fmt.Sprintf("y%d", n))
				// the hosts' requests go to each member in turn
				w.sees(t, right+silence+longestAway, fmt.Sprintf("hosts a, x backoff, y%d ready", n))
				cluster.Rejoin(i)
				n++
				h.has("x", fmt.Sprintf("y%d", n))
				w.sees(t, right+longestAway, fmt.Sprintf("hosts a, x ready, y%d ready", n))
			})
		}
	}
	t.Run("hosts_begin_while_a_member_is_cut_off_from_the_others", func(t *testing.T) {
		settled(t, cluster, c)
		i := cluster.Leader(c)
		cluster.CutPeers(i)
		defer cluster.Rejoin(i)
		time.Sleep(ttl) // it has no leader, and refuses
		for n := range 4 {
			o := testOptions(cluster.Endpoints(), fmt.Sprintf("more-%d", n), nil)
			o.Host.MachineID = strings.Repeat(strconv.Itoa(n), 32)
			more := runs(t, o)
			more.has()
			more.logs(t, "is published")
			if log := more.log.String(); strings.Contains(log, "could not publish") {
				t.Error("it takes more than one attempt")
			}
			more.end()
			<-more.ended
			more.Leave(t.Context())
		}
	})
	t.Run("a_host_that_dies_while_the_leader_is_cut_off_vanishes", func(t *testing.T) {
		settled(t, cluster, c)
		i := cluster.Leader(c)
		cluster.Cut(i)
		h.close()
		// a new leader lets each lease begin again, and the reader may have watched the old one
		w.sees(t, 2*right+silence+longestAway, "")
		cluster.Rejoin(i)
		settled(t, cluster, c)
		w.sees(t, right, "")
	})
}
