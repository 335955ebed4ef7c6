package view

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

const prefix = "/p"

// kv is a key by a short form: "host a", "host a=other-boot", "pool a/x ready", "conflict a/b2".
// With a minus before it, the key is deleted.
func kv(t testing.TB, short string) KV {
	t.Helper()
	keys := record.Below(prefix)
	short, gone := strings.CutPrefix(short, "-")
	words := strings.Fields(short)
	name, boot, _ := strings.Cut(words[1], "=")
	machine, rest, _ := strings.Cut(name, "/")
	out := KV{}
	switch words[0] {
	case "host":
		out = KV{keys.Host(machine), record.Encode(record.Host{Schema: record.Schema, MachineID: machine,
			Name: "name-" + machine, BootID: "boot" + boot, Address: "https://" + machine})}
	case "conflict":
		out = KV{keys.Conflict(machine, rest), record.Encode(record.Host{Schema: record.Schema, MachineID: machine,
			Name: "clone-" + rest, BootID: rest})}
	case "pool":
		state := "loading"
		if len(words) > 2 {
			state = words[2]
		}
		out = KV{keys.Pool(machine, rest), record.Encode(record.Pool{Schema: record.Schema, ID: rest, State: state,
			Ready: state == "ready"})}
	case "models":
		r := record.Models{Schema: record.Schema, MachineID: machine, Truncated: rest == "more"}
		for _, name := range words[2:] {
			r.Models = append(r.Models, record.Model{Model: name})
		}
		out = KV{keys.Models(machine), record.Encode(r)}
	case "raw":
		out = KV{prefix + "/" + words[1], []byte(strings.Join(words[2:], " "))}
	default:
		t.Fatalf("unknown form %q", short)
	}
	if gone {
		out.Value = nil
	}
	return out
}

// batch is one by a short form: "list: host a, pool a/x", "host a, -pool a/x" of one transaction,
// "lost", "alive", "begin", "page: host a" or "end".
func batch(t testing.TB, short string, revision int64) []Batch {
	t.Helper()
	kind, rest, is := strings.Cut(short, ": ")
	switch {
	case short == "begin":
		return []Batch{{Kind: Begin}}
	case short == "end":
		return []Batch{{Kind: End, Revision: revision}}
	case short == "lost":
		return []Batch{{Kind: Lost, Err: errors.New("lost")}}
	case short == "alive":
		return []Batch{{Kind: Alive}}
	case !is:
		rest = short
	}
	b := Batch{Kind: Changed, Revision: revision}
	for part := range strings.SplitSeq(rest, ", ") {
		if part = strings.TrimSpace(part); part != "" {
			b.KVs = append(b.KVs, kv(t, part))
		}
	}
	switch kind {
	case "page":
		b.Kind = Page
	case "list":
		b.Kind = Page
		return []Batch{{Kind: Begin}, b, {Kind: End, Revision: revision}}
	}
	return []Batch{b}
}

func text(changes []Change) string {
	var all []string
	for _, c := range changes {
		line := ""
		switch {
		case c.PoolID != "" && !c.Gone:
			line = fmt.Sprintf("pool %s/%s %s", c.MachineID, c.PoolID, c.Pool.State)
		case c.PoolID != "":
			line = fmt.Sprintf("-pool %s/%s", c.MachineID, c.PoolID)
		case c.BootID != "" && !c.Gone:
			line = fmt.Sprintf("conflict %s/%s with %q", c.MachineID, c.BootID, c.Conflict.Published)
		case c.BootID != "":
			line = fmt.Sprintf("-conflict %s/%s", c.MachineID, c.BootID)
		case !c.Gone:
			line = fmt.Sprintf("host %s %s", c.MachineID, c.Host.BootID)
		default:
			line = "-host " + c.MachineID
		}
		all = append(all, line)
	}
	return strings.Join(all, ", ")
}

// TestSet: which changes of keys are which changes of the view.
func TestSet(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []string // of keys, each followed by what changed in the view behind " => "
	}{
		{"a_host_comes_with_its_pools", []string{"list: host a, pool a/x ready => host a boot, pool a/x ready"}},
		{"pools_without_a_host_are_hidden", []string{"list: pool a/x ready => "}},
		{"and_shown_when_it_comes", []string{"list: pool a/x ready => ", "host a => host a boot, pool a/x ready"}},
		{"a_host_goes_with_its_pools", []string{"list: host a, pool a/x => host a boot, pool a/x loading",
			"-host a => -pool a/x, -host a"}},
		{"its_pools_that_are_left_stay_hidden", []string{"list: host a, pool a/x => host a boot, pool a/x loading",
			"-host a => -pool a/x, -host a", "pool a/x ready => ", "host a=2 => host a boot2, pool a/x ready"}},
		{"a_pool_changes", []string{"list: host a, pool a/x => host a boot, pool a/x loading",
			"pool a/x ready => pool a/x ready", "pool a/x ready => ", "-pool a/x => -pool a/x", "-pool a/x => "}},
		{"one_transaction_is_one_change", []string{"list: host a, pool a/x => host a boot, pool a/x loading",
			"host a=2, pool a/x ready, -pool a/y, pool a/x backoff => host a boot2, pool a/x backoff",
			"-host a, -pool a/x => -pool a/x, -host a"}},
		{"a_new_list_replaces_everything", []string{"list: host a, pool a/x, pool a/y => host a boot, pool a/x loading, pool a/y loading",
			"lost => ", "list: host a, pool a/y ready, host b => -pool a/x, pool a/y ready, host b boot"}},
		{"a_list_that_broke_changes_nothing", []string{"list: host a => host a boot", "begin => ", "page: host b => ", "lost => ",
			"end => ", "list: host a => "}},
		{"a_list_of_several_pages", []string{"begin => ", "page: pool a/x => ", "page: host a => ", "end => host a boot, pool a/x loading"}},
		{"changes_before_a_list_are_not_known_to_be_all", []string{"host a => ", "alive => "}},
		{"a_conflict_is_shown_with_or_without_the_other_host", []string{"list: conflict a/2 => conflict a/2 with \"\"",
			"host a => host a boot, conflict a/2 with \"name-a\"", "-conflict a/2 => -conflict a/2"}},
		{"keys_of_something_else", []string{"list: raw other/x 1, raw hosts/a/b 1, raw pools/a 1, raw hosts/ 1, raw conflicts/a 1 => "}},
		{"values_that_cannot_be_read_hide_what_they_are_of", []string{"list: host a, pool a/x => host a boot, pool a/x loading",
			`raw pools/a/x {"schema":2,"id":"x"} => -pool a/x`, "pool a/x => pool a/x loading",
			`raw hosts/a {"schema":1 => -pool a/x, -host a`, "host a => host a boot, pool a/x loading"}},
		{"the_clock_of_a_host_means_nothing", []string{
			`list: raw hosts/a {"schema":1,"machine_id":"a","boot_id":"b","started":"2100-01-01T00:00:00Z"} => host a b`,
			`raw hosts/a {"schema":1,"machine_id":"a","boot_id":"b2","started":"1970-01-01T00:00:00Z"} => host a b2`,
			"-host a => -host a"}},
		{"a_record_of_another_host_or_pool_is_not_believed", []string{"list: host a => host a boot",
			`raw hosts/b {"schema":1,"machine_id":"a"} => `, `raw pools/a/x {"schema":1,"id":"y"} => `,
			`raw conflicts/a/b2 {"schema":1,"machine_id":"a","boot_id":"b3"} => `}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(prefix)
			for i, step := range c.steps {
				do, want, _ := strings.Cut(step, " => ")
				var got []Change
				for _, b := range batch(t, do, int64(i+1)) {
					got = append(got, s.Apply(b)...)
				}
				if text(got) != want {
					t.Errorf("%s: the view changes by\n%q, want\n%q", do, text(got), want)
				}
			}
		})
	}
}

func all(t testing.TB, s *Set, short string) {
	t.Helper()
	for _, b := range batch(t, short, 7) {
		s.Apply(b)
	}
}

// TestPools: the whole view, sorted, joined and with what was left out.
func TestPools(t *testing.T) {
	s := New(prefix)
	if v := s.Pools(); s.Complete() || v.Pools == nil || v.Hosts == nil || v.Conflicts == nil {
		t.Errorf("an empty view: %+v", v)
	}
	all(t, s, `list: host b, pool b/y ready, host a, pool a/z, pool a/x, pool c/x, conflict b/2, raw pools/a/q {}`)
	v := s.Pools()
	var got []string
	for _, h := range v.Hosts {
		got = append(got, h.Name)
	}
	for _, p := range v.Pools {
		got = append(got, p.Node+"/"+p.ID+" "+p.Address+" "+p.MachineID)
	}
	want := []string{"name-a", "name-b", "name-a/x https://a a", "name-a/z https://a a", "name-b/y https://b b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if v.Prefix != prefix || v.Revision != 7 || v.Skipped != 1 || v.Truncated || len(v.Conflicts) != 1 ||
		v.Conflicts[0].Published != "name-b" {
		t.Errorf("%+v", v)
	}
	all(t, s, "-raw pools/a/q")
	if n := s.Pools().Skipped; n != 0 {
		t.Errorf("%d keys are skipped after they went", n)
	}
	if present := text(s.Present()); present != "host a boot, pool a/x loading, pool a/z loading, host b boot, "+
		`pool b/y ready, conflict b/2 with "name-b"` {
		t.Errorf("present is %s", present)
	}
}

// TestRename: a host that gets another name or address changes its pools in the view, too.
func TestRename(t *testing.T) {
	s := New(prefix)
	all(t, s, "list: host a, pool a/x")
	moved := record.Host{Schema: record.Schema, MachineID: "a", Name: "name-a", BootID: "boot", Address: "https://new"}
	got := s.Apply(Batch{Kind: Changed, KVs: []KV{{record.Below(prefix).Host("a"), record.Encode(moved)}}})
	if len(got) != 2 || got[1].Pool.Address != "https://new" {
		t.Errorf("%s", text(got))
	}
}

// TestBounds: a fleet that is too large is shown in part, and that is known until a list that fits.
func TestBounds(t *testing.T) {
	for name, bound := range map[string]func(*Set){
		"keys":  func(s *Set) { s.maxKeys = 2 },
		"bytes": func(s *Set) { s.maxBytes = 800 },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(prefix)
			bound(s)
			all(t, s, "list: host a, pool a/x, pool a/y, pool a/z")
			v := s.Pools()
			if !v.Truncated || len(v.Pools) != 1 || len(v.Hosts) != 1 {
				t.Fatalf("%+v", v)
			}
			all(t, s, "pool a/x ready") // a key that is known may change
			if v := s.Pools(); len(v.Pools) != 1 || !v.Pools[0].Ready {
				t.Errorf("%+v", v.Pools)
			}
			all(t, s, "list: host a")
			if v := s.Pools(); v.Truncated || s.now.bytes == 0 {
				t.Errorf("%+v", v)
			}
			all(t, s, "-host a")
			if s.now.bytes != 0 || len(s.now.sizes) != 0 || len(s.now.machines) != 0 {
				t.Errorf("%d bytes and %d hosts are kept of nothing", s.now.bytes, len(s.now.machines))
			}
		})
	}
}
