package fleettop

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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

// column is one of the table.
type column struct {
	name  string // for people
	title string
	width int
	left  bool // text; numbers are aligned on the right
	cell  func(r *row) string
	order func(a, b *row) int
}

// columns are all, from the left. The last takes what width is left.
func columns() []column {
	return []column{
		{"host", "NODE", 14, true, func(r *row) string { return r.pool.Node },
			func(a, b *row) int { return cmp.Compare(a.pool.Node, b.pool.Node) }},
		{"pool", "POOL", 18, true, func(r *row) string { return r.pool.ID },
			func(a, b *row) int { return cmp.Compare(a.pool.ID, b.pool.ID) }},
		{"state", "STATE", 9, true, (*row).state, func(a, b *row) int { return cmp.Compare(rank(b), rank(a)) }},
		{"slots", "SLOTS", 8, false, (*row).slots, func(a, b *row) int { return cmp.Compare(a.used, b.used) }},
		{"leases", "LEASES", 6, false, func(r *row) string { return fmt.Sprint(r.leases) },
			func(a, b *row) int { return cmp.Compare(a.leases, b.leases) }},
		{"restarts", "RST", 4, false, func(r *row) string { return fmt.Sprint(r.restarts) },
			func(a, b *row) int { return cmp.Compare(a.restarts, b.restarts) }},
		{"model", "MODEL", 0, true, func(r *row) string { return r.pool.ModelID },
			func(a, b *row) int { return cmp.Compare(a.pool.ModelID, b.pool.ModelID) }},
	}
}

// firstNumber is the first column of which the greatest is wanted first, up to the model.
const firstNumber = 3

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
func matches(p *wire.FleetPool, text string) bool {
	text = strings.ToLower(text)
	code, _, _ := strings.Cut(p.LastError, ":")
	return slices.ContainsFunc([]string{p.Node, p.ID, p.State, p.Engine, p.ModelID, code}, func(word string) bool {
		return strings.Contains(strings.ToLower(word), text)
	})
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
		if matches(p, m.filter) {
			pools = append(pools, rowOf(key, p))
		}
	}
	order := columns()[m.sort].order
	slices.SortFunc(pools, func(a, b row) int {
		by := order(&a, &b)
		if m.reverse {
			by = -by
		}
		return cmp.Or(by, cmp.Compare(a.pool.Node, b.pool.Node), cmp.Compare(a.pool.ID, b.pool.ID),
			cmp.Compare(a.key, b.key))
	})
	m.rows = pools
	if of := groupings()[m.group].of; of != nil {
		m.rows = m.grouped(pools, of)
	}
	if at := slices.IndexFunc(m.rows, func(r row) bool { return r.key == m.cursor }); at >= 0 {
		m.on = at
	}
	m.move(0)
}

// grouped are the pools by group, below a row with the sums of each.
func (m *Model) grouped(pools []row, of func(*wire.FleetPool) string) []row {
	byName := make(map[string][]row)
	var names []string
	for _, r := range pools {
		name := of(r.pool)
		if byName[name] == nil {
			names = append(names, name)
		}
		r.below = true
		byName[name] = append(byName[name], r)
	}
	slices.Sort(names)
	var rows []row
	for _, name := range names {
		g := row{key: "group " + name, label: name}
		if g.folded = m.folded[g.key]; name == "" {
			g.label = "(none)"
		}
		for _, r := range byName[name] {
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

// move moves the selection, and what is shown with it.
func (m *Model) move(by int) {
	m.on = max(0, min(m.on+by, len(m.rows)-1))
	m.cursor = ""
	if m.on < len(m.rows) {
		m.cursor = m.rows[m.on].key
	}
	room := m.room()
	m.first = max(0, min(m.first, len(m.rows)-room))
	m.first = min(m.first, m.on)
	m.first = max(m.first, m.on-room+1)
}

// selected is the row of the cursor; nil: there is none.
func (m *Model) selected() *row {
	if m.on < len(m.rows) {
		return &m.rows[m.on]
	}
	return nil
}
