package etcd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// planned are the keys that a plan lets be written, each with its time in seconds.
type planned struct {
	*plan
	now   time.Time
	from  time.Time
	takes time.Duration // a write
	log   []string
}

func newPlanned(exist ...string) *planned {
	now := time.Unix(0, 0)
	return &planned{plan: newPlan(exist, now), now: now, from: now}
}

func (p *planned) want(pools ...record.Pool) {
	all := map[string]*record.Pool{}
	for i := range pools {
		all[pools[i].ID] = &pools[i]
	}
	p.wantPools(all)
}

// pass writes what is due until a while has passed; etcd takes some time for each write.
func (p *planned) pass(d time.Duration) {
	end := p.now.Add(d)
	for {
		batch, again := p.next(p.now)
		for _, c := range batch {
			sign := ""
			if c.value == nil {
				sign = "-"
			}
			p.log = append(p.log, fmt.Sprintf("%.1f %s%s", p.now.Sub(p.from).Seconds(), sign, c.key))
		}
		if len(batch) > 0 {
			begun := p.now
			p.now = p.now.Add(p.takes)
			p.wrote(batch, begun, p.now)
			continue
		}
		if again.IsZero() || again.After(end) {
			if end.After(p.now) {
				p.now = end
			}
			return
		}
		p.now = again
	}
}

func pool(id string, ready bool, free int) record.Pool {
	return record.Pool{ID: id, Ready: ready, SlotsFree: free}
}

// TestPlan: what is written, when and in which order.
func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name  string
		exist []string
		steps func(p *planned)
		want  string
	}{
		{"a_key_is_written_once", nil, func(p *planned) {
			for range 3 {
				p.want(pool("a", true, 1))
				p.pass(time.Second)
			}
		}, "0.0 a"},
		{"what_changes_and_changes_back_is_not_written", nil, func(p *planned) {
			p.want(pool("a", true, 1))
			p.pass(0)
			p.want(pool("a", false, 1))
			p.pass(0)
			p.want(pool("a", true, 1))
			p.pass(time.Second)
		}, "0.0 a"},
		{"a_pool_that_flaps_is_written_twice_a_second", nil, func(p *planned) {
			for i := range 20 {
				p.want(pool("a", i%2 == 0, i))
				p.pass(100 * time.Millisecond)
			}
		}, "0.0 a, 0.5 a, 1.0 a, 1.5 a, 2.0 a"},
		{"a_pool_that_is_removed_is_deleted", nil, func(p *planned) {
			p.want(pool("a", true, 1), pool("b", true, 1))
			p.pass(time.Second)
			p.want(pool("b", true, 1))
			p.pass(time.Second)
		}, "0.0 a, 0.0 b, 1.0 -a"},
		{"what_exists_and_is_not_wanted_is_deleted", []string{"a", "b"}, func(p *planned) {
			p.want(pool("b", true, 1))
			p.pass(time.Second)
		}, "0.0 -a, 0.0 b"},
		{"urgent_first_and_slots_last", nil, func(p *planned) {
			p.want(pool("a", true, 1), pool("b", true, 1), pool("c", true, 1), pool("d", true, 1))
			p.pass(time.Second)
			other := pool("b", true, 1)
			other.Hint = "another"
			p.want(pool("a", true, 2), other, pool("c", false, 1), pool("e", true, 1))
			p.pass(time.Second)
		}, "0.0 a, 0.0 b, 0.0 c, 0.0 d, 1.0 e, 1.0 -d, 1.0 c, 1.0 b, 1.0 a"},
		{"an_etcd_that_is_slow_gets_slots_less_often_and_readiness_at_once", nil, func(p *planned) {
			p.takes = time.Second
			p.want(pool("a", true, 1), pool("b", true, 1))
			p.pass(0)
			p.want(pool("a", true, 2), pool("b", true, 1))
			p.pass(time.Second)
			p.want(pool("a", true, 3), pool("b", false, 1))
			p.pass(10 * time.Second)
		}, "0.0 a, 0.0 b, 2.0 b, 7.0 a"},
		{"the_host_is_no_pool", nil, func(p *planned) {
			p.set("host", []byte("1"), nil)
			p.want(pool("a", true, 1))
			p.pass(time.Second)
			p.want()
			p.pass(time.Second)
		}, "0.0 a, 0.0 host, 1.0 -a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlanned(c.exist...)
			c.steps(p)
			if got := strings.Join(p.log, ", "); got != c.want {
				t.Errorf("written\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestBudget: a host of many pools that change all the time writes so many keys a second, each pool
// its part, and one that becomes ready is not kept waiting by slots of others.
func TestBudget(t *testing.T) {
	p := newPlanned()
	const pools, tenths = 60, 200
	var last string
	for i := range tenths {
		all := []record.Pool{pool("ready", i == tenths-1, 0)}
		for n := range pools {
			all = append(all, pool(fmt.Sprintf("p%03d", n), true, i))
		}
		p.want(all...)
		before := len(p.log)
		p.pass(100 * time.Millisecond)
		last = strings.Join(p.log[before:], ", ")
	}
	if most := perSecond*tenths/10 + perSecond; len(p.log) > most || len(p.log) < most-2*perSecond {
		t.Errorf("%d keys in %d seconds, want about %d", len(p.log), tenths/10, most)
	}
	if !strings.HasPrefix(last, "20.0 ready") {
		t.Errorf("the pool that became ready waits: %s", last)
	}
	for n := range pools {
		if writes := strings.Count(strings.Join(p.log, ","), fmt.Sprintf("p%03d", n)); writes < 5 {
			t.Errorf("p%03d was written %d times", n, writes)
		}
	}
}

// TestWhole: what a session begins with is in transactions of a bounded size, the host's key first.
func TestWhole(t *testing.T) {
	p := newPlanned("gone")
	p.set("host", []byte("1"), nil)
	var all []record.Pool
	for n := range 250 {
		one := pool(fmt.Sprintf("p%03d", n), true, 1)
		if n > 200 {
			one.Hint = strings.Repeat("x", batchBytes/4)
		}
		all = append(all, one)
	}
	p.want(all...)
	seen := map[string]bool{}
	for i, batch := range p.whole("host") {
		size := 0
		for _, c := range batch {
			seen[c.key], size = true, size+len(c.value)
		}
		if i == 0 && batch[0].key != "host" {
			t.Errorf("%s is first", batch[0].key)
		}
		if len(batch) > batchKeys || size > batchBytes {
			t.Errorf("transaction %d has %d keys and %d bytes", i, len(batch), size)
		}
		p.wrote(batch, p.now, p.now)
	}
	if len(seen) != 252 || p.kept("host") != 250 {
		t.Errorf("%d keys written, %d kept beside the host's; want 252 and 250", len(seen), p.kept("host"))
	}
}
