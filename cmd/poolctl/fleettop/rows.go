package fleettop

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// row is one line of the table: a group, or a pool.
type row struct {
	key     string          // names it over all pictures
	label   string          // of a group
	pool    *wire.FleetPool // nil: a group
	members int             // of a group
	ready   int
	folded  bool
	below   bool // it belongs to a group

	used, total, leases, restarts int
}

// columns are all, from the left. The last takes what width is left.
func columns() []listview.Column[row] {
	return []listview.Column[row]{
		listview.Text("host", "NODE", 14, func(r *row) string { return r.pool.Node },
			func(a, b *row) int { return cmp.Compare(a.pool.Node, b.pool.Node) }),
		listview.Text("pool", "POOL", 18, func(r *row) string { return r.pool.ID },
			func(a, b *row) int { return cmp.Compare(a.pool.ID, b.pool.ID) }),
		listview.Text("state", "STATE", 9, (*row).state, func(a, b *row) int { return cmp.Compare(rank(b), rank(a)) }),
		listview.Number("slots", "SLOTS", 8, (*row).slots, func(a, b *row) int { return cmp.Compare(a.used, b.used) }),
		listview.Number("leases", "LEASES", 6, func(r *row) string { return fmt.Sprint(r.leases) },
			func(a, b *row) int { return cmp.Compare(a.leases, b.leases) }),
		listview.Number("restarts", "RST", 4, func(r *row) string { return fmt.Sprint(r.restarts) },
			func(a, b *row) int { return cmp.Compare(a.restarts, b.restarts) }),
		listview.Text("model", "MODEL", 0, func(r *row) string { return r.pool.ModelID },
			func(a, b *row) int { return cmp.Compare(a.pool.ModelID, b.pool.ModelID) }),
	}
}

// state is the pool's; one that drains while it is ready is shown as draining.
func (r *row) state() string {
	if r.pool == nil {
		return ""
	}
	if r.pool.Draining && r.pool.Ready {
		return string(registry.StateDraining)
	}
	return r.pool.State
}

// slots are those in use, of all.
func (r *row) slots() string {
	if r.total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", r.used, r.total)
}

// rank is a pool's place among the states: the one closest to serving is the first, one of a newer
// version the last.
func rank(r *row) int {
	if at := slices.Index(registry.States(), registry.State(r.state())); at >= 0 {
		return at
	}
	return len(registry.States())
}

// names are those of the groupings.
func names() (all []string) {
	for _, g := range groupings() {
		all = append(all, g.name)
	}
	return all
}

// grouping is how pools are put together; of is nil for no groups.
type grouping struct {
	name string
	of   func(p *wire.FleetPool) string
}

func groupings() []grouping {
	return []grouping{
		{"none", nil},
		{"host", func(p *wire.FleetPool) string { return p.Node }},
		{"model", func(p *wire.FleetPool) string { return p.ModelID }},
		{"state", func(p *wire.FleetPool) string { return p.State }},
		{"engine", func(p *wire.FleetPool) string { return p.Engine }},
	}
}

// matches reports whether a pool has the typed text in one of the words that people know it by.
func (m *Model) matches(p *wire.FleetPool) bool {
	code, _, _ := strings.Cut(p.LastError, ":")
	return m.Matches(p.Node, p.ID, p.State, p.Engine, p.ModelID, code)
}

func rowOf(key string, p *wire.FleetPool) row {
	r := row{key: key, pool: p, total: p.SlotsTotal, used: max(0, p.SlotsTotal-p.SlotsFree), leases: p.ActiveLeases,
		restarts: p.RestartCount, members: 1}
	if p.Ready && !p.Draining {
		r.ready = 1
	}
	return r
}

// layOut makes the rows again where something changed, and keeps the selected one selected.
func (m *Model) layOut() {
	if !m.stale {
		return
	}
	m.stale = false
	pools := make([]row, 0, len(m.pools))
	for key, p := range m.pools {
		if m.matches(p) {
			pools = append(pools, rowOf(key, p))
		}
	}
	slices.SortFunc(pools, func(a, b row) int {
		return cmp.Or(m.Compare(&a, &b), cmp.Compare(a.pool.Node, b.pool.Node), cmp.Compare(a.pool.ID, b.pool.ID),
			cmp.Compare(a.key, b.key))
	})
	m.Rows = pools
	if of := groupings()[m.Group].of; of != nil {
		m.Rows = m.grouped(pools, of)
	}
	m.Keep(m.room())
}

// grouped are the pools by group, below a row with the sums of each.
func (m *Model) grouped(pools []row, of func(*wire.FleetPool) string) (rows []row) {
	names, byName := listview.Grouped(pools, func(r *row) string { return of(r.pool) })
	for _, name := range names {
		g := row{key: "group " + name, label: listview.Label(name)}
		g.folded = m.Folded[g.key]
		for i := range byName[name] {
			r := &byName[name][i]
			r.below = true
			g.members, g.ready, g.used, g.total = g.members+1, g.ready+r.ready, g.used+r.used, g.total+r.total
			g.leases, g.restarts = g.leases+r.leases, g.restarts+r.restarts
		}
		rows = append(rows, g)
		if !g.folded {
			rows = append(rows, byName[name]...)
		}
	}
	return rows
}
