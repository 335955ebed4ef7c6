package view

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// mirror is what a program has that applies nothing but changes of the view.
type mirror struct {
	hosts     map[string]wire.FleetHost
	pools     map[string]wire.FleetPool
	conflicts map[string]wire.FleetConflict
}

func newMirror() *mirror {
	return &mirror{map[string]wire.FleetHost{}, map[string]wire.FleetPool{}, map[string]wire.FleetConflict{}}
}

func (m *mirror) apply(t *testing.T, changes []Change) {
	for _, c := range changes {
		switch {
		case c.PoolID != "" && c.Gone:
			delete(m.pools, c.MachineID+"/"+c.PoolID)
		case c.PoolID != "":
			m.pools[c.MachineID+"/"+c.PoolID] = *c.Pool
		case c.BootID != "" && c.Gone:
			delete(m.conflicts, c.MachineID+"/"+c.BootID)
		case c.BootID != "":
			m.conflicts[c.MachineID+"/"+c.BootID] = *c.Conflict
		case c.Gone:
			delete(m.hosts, c.MachineID)
		default:
			m.hosts[c.MachineID] = *c.Host
		}
		for key, p := range m.pools { // at no moment
			if _, is := m.hosts[p.MachineID]; !is {
				t.Fatalf("%s is shown without its host, after %s", key, text(changes))
			}
		}
	}
}

func mirrorOf(v wire.FleetPools) *mirror {
	m := newMirror()
	for _, h := range v.Hosts {
		m.hosts[h.MachineID] = h
	}
	for _, p := range v.Pools {
		m.pools[p.MachineID+"/"+p.ID] = p
	}
	for _, c := range v.Conflicts {
		m.conflicts[c.MachineID+"/"+c.BootID] = c
	}
	return m
}

// FuzzSet: whatever keys change, and wherever lists come in between, the changes lead to the view;
// no pool is shown without its host; and the view is that of a list of the same keys.
func FuzzSet(f *testing.F) {
	f.Add("host a\npool a/x ready\n-host a\nhost a=2")
	f.Add("pool a/x\nconflict a/2\nhost a\nlist\n-pool a/x\nlost\npool a/y ready\nlist")
	f.Add("raw hosts/a {\"schema\":1,\"machine_id\":\"a\"}\nraw pools/a/x nonsense\nhost b, pool b/x, -host b")
	f.Add("models a x y\nhost a\nlist\n-models a\nmodels a z, -host a\nlist\nhost a")
	f.Add("raw hosts/a/ x\nraw pools// 1\nraw conflicts/a/b/c 1")
	f.Fuzz(mutate.Many(func(t *testing.T, script string) {
		s, m, keys := New(prefix), newMirror(), map[string][]byte{}
		m.apply(t, s.Apply(Batch{Kind: Begin}))
		m.apply(t, s.Apply(Batch{Kind: End, Revision: 1}))
		for line := range strings.SplitSeq(script, "\n") {
			switch line {
			case "list":
				m.apply(t, listed(s, keys))
				continue
			case "lost":
				m.apply(t, s.Apply(Batch{Kind: Lost}))
				continue
			}
			b := Batch{Kind: Changed}
			for part := range strings.SplitSeq(line, ", ") {
				words := strings.Fields(part)
				if len(words) < 2 {
					continue
				}
				const known = " host pool conflict models raw "
				if !strings.Contains(known, " "+strings.TrimPrefix(words[0], "-")+" ") {
					continue
				}
				one := kv(t, strings.Join(words, " "))
				if one.Value == nil {
					delete(keys, one.Key)
				} else {
					keys[one.Key] = one.Value
				}
				b.KVs = append(b.KVs, one)
			}
			m.apply(t, s.Apply(b))
		}
		v := s.Pools()
		if diff := cmp.Diff(mirrorOf(v), m, cmp.AllowUnexported(mirror{})); diff != "" {
			t.Fatalf("the changes lead elsewhere (-view +changes)\n%s", diff)
		}
		fresh := New(prefix)
		listed(fresh, keys)
		w := fresh.Pools()
		v.Revision, w.Revision = 0, 0
		if diff := cmp.Diff(v, w); diff != "" {
			t.Fatalf("a list leads elsewhere (-changes +list)\n%s", diff)
		}
		a, b := s.Models(), fresh.Models()
		a.Revision, b.Revision = 0, 0
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("a list leads to other models (-changes +list)\n%s", diff)
		}
		if s.now.list != fresh.now.list {
			t.Fatalf("%d bytes of models are kept, and %d of a list", s.now.list, fresh.now.list)
		}
		if s.now.bytes != fresh.now.bytes || len(s.now.machines) != len(fresh.now.machines) {
			t.Fatalf("%d bytes and %d hosts are kept, and %d and %d of a list", s.now.bytes, len(s.now.machines),
				fresh.now.bytes, len(fresh.now.machines))
		}
	}))
}

func listed(s *Set, keys map[string][]byte) []Change {
	s.Apply(Batch{Kind: Begin})
	for key, value := range keys {
		s.Apply(Batch{Kind: Page, KVs: []KV{{key, value}}})
	}
	return s.Apply(Batch{Kind: End, Revision: 1})
}
