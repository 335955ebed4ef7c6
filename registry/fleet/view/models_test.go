package view

import (
	"strings"
	"testing"
)

// TestModels: models are shown with their host or not at all, sorted by model and host; a list that
// names another host is not believed; and lists have room of their own.
func TestModels(t *testing.T) {
	for _, c := range []struct{ name, batches, want string }{
		{"sorted", "list: host b, host a, models a y x, models b x", "x@name-a x@name-b y@name-a"},
		{"no_host", "list: host b, models a x, models b x", "x@name-b"},
		{"the_host_comes_later", "list: models a x; host a", "x@name-a"},
		{"the_host_goes", "list: host a, models a x; -host a", ""},
		{"replaced", "list: host a, models a x y; models a y z", "y@name-a z@name-a"},
		{"deleted", "list: host a, models a x; -models a", ""},
		{"gone_in_the_next_list", "list: host a, models a x; lost; list: host a", ""},
		{"more_than_is_published", "list: host a, models a/more x", "x@name-a truncated"},
		{"of_another_host", `list: host a, raw models/a {"schema":1,"machine_id":"b","models":[{"model":"x"}]}`, ""},
		{"of_a_newer_version", `list: host a, raw models/a {"schema":2,"machine_id":"a","models":[{"model":"x"}]}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(prefix)
			for i, text := range strings.Split(c.batches, "; ") {
				for _, b := range batch(t, text, int64(i)) {
					s.Apply(b)
				}
			}
			if got := modelsText(s); got != c.want {
				t.Errorf("shows %q, want %q", got, c.want)
			}
		})
	}
}

func modelsText(s *Set) string {
	v := s.Models()
	var words []string
	for _, m := range v.Models {
		words = append(words, m.Model+"@"+m.Node)
	}
	if v.Truncated {
		words = append(words, "truncated")
	}
	return strings.Join(words, " ")
}

// TestRoomForModels: lists of models beyond their bound are left out, and take no room of hosts and
// pools; what was deleted makes room again.
func TestRoomForModels(t *testing.T) {
	s := New(prefix)
	first, second := kv(t, "models a x"), kv(t, "models b y")
	s.maxList = len(first.Key) + len(first.Value) + 1
	s.maxBytes = 1 << 10
	for _, b := range batch(t, "list: host a, host b, models a x, models b y", 1) {
		s.Apply(b)
	}
	if got := modelsText(s); got != "x@name-a truncated" {
		t.Errorf("shows %q", got)
	}
	if v := s.Pools(); v.Truncated || len(v.Hosts) != 2 {
		t.Errorf("%+v", v)
	}
	first.Value = nil
	s.Apply(Batch{Kind: Changed, KVs: []KV{first, second}})
	if got := modelsText(s); got != "y@name-b truncated" {
		t.Errorf("shows %q", got)
	}
}
