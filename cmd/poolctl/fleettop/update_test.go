package fleettop

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// ids are the pools in the order of their rows, as "gpu1/llama3".
func ids(m *Model) string {
	m.layOut()
	var all []string
	for _, r := range m.Rows {
		switch {
		case r.pool == nil:
			all = append(all, r.label+":")
		default:
			all = append(all, r.pool.Node+"/"+r.pool.ID)
		}
	}
	return strings.Join(all, " ")
}

var normal = listview.Size{Width: 80, Height: 24}

// TestRows: order, groups and filter, with the greatest first where a number is the order.
func TestRows(t *testing.T) {
	for _, c := range []struct{ name, keys, want string }{
		{"by_host", "", "gpu1/llama3 gpu2/llama3 gpu2/qwen gpu3/hostile"},
		{"reversed", "r", "gpu3/hostile gpu2/llama3 gpu2/qwen gpu1/llama3"},
		{"by_pool", ">", "gpu3/hostile gpu1/llama3 gpu2/llama3 gpu2/qwen"},
		{"by_state_the_worst_first", "> >", "gpu2/qwen gpu1/llama3 gpu2/llama3 gpu3/hostile"},
		{"by_slots_the_fullest_first", "> > >", "gpu3/hostile gpu2/llama3 gpu1/llama3 gpu2/qwen"},
		{"by_model", "<", "gpu3/hostile gpu1/llama3 gpu2/llama3 gpu2/qwen"},
		{"grouped_by_host", "g", "gpu1: gpu1/llama3 gpu2: gpu2/llama3 gpu2/qwen gpu3: gpu3/hostile"},
		{"grouped_by_state", "g g g", "backoff: gpu2/qwen ready: gpu1/llama3 gpu2/llama3 gpu3/hostile"},
		{"folded", "g left", "gpu1: gpu2: gpu2/llama3 gpu2/qwen gpu3: gpu3/hostile"},
		{"all_folded", "g a", "gpu1: gpu2: gpu3:"},
		{"all_unfolded", "g a a", "gpu1: gpu1/llama3 gpu2: gpu2/llama3 gpu2/qwen gpu3: gpu3/hostile"},
		{"filter_by_host", "/ G P U 2 enter", "gpu2/llama3 gpu2/qwen"},
		{"filter_by_model", "/ q w e n - w i enter", "gpu2/qwen"},
		{"filter_by_code", "/ c u d a enter", "gpu2/qwen"},
		{"filter_is_ended", "/ c u d a enter esc", "gpu1/llama3 gpu2/llama3 gpu2/qwen gpu3/hostile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ids(view(normal, whole(0), c.keys)); got != c.want {
				t.Errorf("rows are %s, want %s", got, c.want)
			}
		})
	}
}

// TestSelection: the selected pool stays selected while others come and go, and when it goes, the
// one at its place is.
func TestSelection(t *testing.T) {
	m := view(normal, whole(0), "down down")
	m.Update(changed(1, ofPool("pool", pool(1, "a", "hf:acme/a"))))
	m.Update(changed(2, ofPool("pool-gone", pool(2, "llama3", ""))))
	m.layOut()
	if p := m.Selected().pool; p.ID != "qwen" {
		t.Errorf("%s is selected", p.ID)
	}
	m.Update(changed(3, ofPool("pool-gone", pool(2, "qwen", ""))))
	m.layOut()
	if p := m.Selected().pool; p.ID != "hostile" {
		t.Errorf("%s is selected", p.ID)
	}
	m.Update(Whole{At: now})
	m.layOut()
	if r := m.Selected(); r != nil {
		t.Errorf("%+v is selected of nothing", r)
	}
	many := view(normal, whole(100), "G")
	many.layOut()
	if many.Selected().pool.ID != "hostile" || many.At-many.First != many.room()-1 {
		t.Errorf("row %d of %d, from %d", many.At, len(many.Rows), many.First)
	}
}

// TestTail: what changes is in the tail; slots alone are not, and neither is what was there first.
func TestTail(t *testing.T) {
	m := view(normal, whole(0))
	used := pool(1, "llama3", "hf:acme/llama3:Q8_0")
	used.SlotsFree = 0
	m.Update(changed(1, ofPool("pool", used)))
	if len(m.events) != 0 {
		t.Errorf("%+v", m.events)
	}
	m.Update(changed(2, wire.FleetEvent{Kind: "conflict", MachineID: "m", BootID: "b", Node: "gpu9",
		Conflict: &wire.FleetConflict{}}))
	m.Update(whole(1)) // after a reconnection: one pool is new
	var got []string
	for _, e := range m.events {
		got = append(got, e.kind+" "+e.text)
	}
	if text := strings.Join(got, ", "); text != "conflict gpu9 has the machine-id of another host, "+
		"pool gpu1/pool-000  ready" {
		t.Errorf("%s", text)
	}
	for range mostEvents + 10 {
		m.tell(now, "pool", "x", false)
	}
	if len(m.events) != mostEvents {
		t.Errorf("%d lines are kept", len(m.events))
	}
}

// TestTrouble: a picture is old from the loss on, until the fleet is read again.
func TestTrouble(t *testing.T) {
	m := view(normal, whole(0), changed(1, wire.FleetEvent{Kind: "lost", LastError: "no leader"}))
	if m.trouble == "" {
		t.Error("the loss is not shown")
	}
	m.Update(changed(2, wire.FleetEvent{Kind: "synced"}))
	if m.trouble != "" {
		t.Errorf("old although it is read again: %s", m.trouble)
	}
	m.Update(Trouble{now, "gone"})
	m.Update(whole(0))
	if m.trouble != "" {
		t.Errorf("old although it is read again: %s", m.trouble)
	}
}

// TestEffects: which keys leave, stop or redraw, on each page.
func TestEffects(t *testing.T) {
	for _, c := range []struct {
		before string
		key    term.Key
		want   any
	}{
		{"", "q", listview.Quit{}},
		{"", term.Interrupt, listview.Quit{}},
		{"enter", term.Interrupt, listview.Quit{}},
		{"/", term.Interrupt, listview.Quit{}},
		{"", term.Suspend, listview.Suspend{}},
		{"?", term.Refresh, listview.Redraw{}},
		{"enter", "q", nil},
		{"?", "q", nil},
		{"/", "q", nil},
	} {
		m := view(normal, whole(0), c.before)
		got := m.Update(c.key)
		if c.want == nil && len(got) != 0 || c.want != nil && (len(got) != 1 || got[0] != c.want) {
			t.Errorf("%s %s: %v", c.before, c.key, got)
		}
	}
}
