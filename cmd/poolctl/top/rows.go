package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// row is one line of the table: a group, a pool, or a replica below its pool.
type row struct {
	key     string // names it over all pictures
	label   string
	depth   int
	pool    *wire.Pool    // nil: a group
	replica *wire.Replica // nil: a pool as a whole
	members int           // of a group
	folds   bool          // it has rows below it that can be hidden
	folded  bool
	figures *figures
}

// state is the replica's or the pool's.
func (r *row) state() string {
	switch {
	case r.replica != nil:
		return r.replica.State
	case r.pool != nil:
		return r.pool.State
	}
	return ""
}

// columns are all, from the left. The first takes what width is left.
func columns() []listview.Column[row] {
	return []listview.Column[row]{
		listview.Text("name", "POOL", 0, func(r *row) string { return r.label },
			func(a, b *row) int { return cmp.Compare(a.pool.ID, b.pool.ID) }),
		listview.Text("state", "STATE", 9, (*row).state, func(a, b *row) int { return cmp.Compare(rank(b), rank(a)) }),
		listview.Number("slots", "USED", 7, func(r *row) string { return r.figures.slots() },
			func(a, b *row) int { return cmp.Compare(a.figures.used, b.figures.used) }),
		listview.Number("requests", "REQS", 4, func(r *row) string { return count(r.figures.requests) },
			func(a, b *row) int { return compare(a.figures.requests, b.figures.requests) }),
		listview.Number("tokens", "TOK/S", 5, func(r *row) string { return short(r.figures.tokens) },
			func(a, b *row) int { return compare(a.figures.tokens, b.figures.tokens) }),
		listview.Number("first token", "FIRST", 6, func(r *row) string { return millis(r.figures.first) },
			func(a, b *row) int { return compare(a.figures.first, b.figures.first) }),
		listview.Number("VRAM", "VRAM", 5, func(r *row) string { return size(r.figures.vram) },
			func(a, b *row) int { return compare(a.figures.vram, b.figures.vram) }),
		listview.Number("RAM", "RAM", 5, func(r *row) string { return size(r.figures.ram) },
			func(a, b *row) int { return compare(a.figures.ram, b.figures.ram) }),
		listview.Number("pressure", "PRES", 4, func(r *row) string { return percent(r.figures.pressure) },
			func(a, b *row) int { return compare(a.figures.pressure, b.figures.pressure) }),
		listview.Number("restarts", "RST", 4, func(r *row) string { return fmt.Sprint(r.figures.restarts) },
			func(a, b *row) int { return cmp.Compare(a.figures.restarts, b.figures.restarts) }),
	}
}

func millis(v *float64) string {
	switch {
	case v == nil:
		return unknown
	case *v < 10_000:
		return fmt.Sprintf("%.0fms", *v)
	}
	return fmt.Sprintf("%.0fs", *v/1000)
}

// compare puts what is not known first, as the least.
func compare[T cmp.Ordered](a, b *T) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return cmp.Compare(*a, *b)
}

// rank is a pool's place among the states: the one closest to serving is the first.
func rank(r *row) int { return slices.Index(registry.States(), registry.State(r.pool.State)) }

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
	of   func(p *wire.Pool) string
}

func groupings() []grouping {
	return []grouping{
		{"none", nil},
		{"state", func(p *wire.Pool) string { return p.State }},
		{"engine", func(p *wire.Pool) string { return p.Engine }},
		{"model", func(p *wire.Pool) string { return deref(p.ModelID) }},
		{"GPU", func(p *wire.Pool) string { return strings.Join(p.DeviceMask, ",") }},
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// matches reports whether a pool has the typed text in one of the words that people know it by.
func (m *Model) matches(p *wire.Pool) bool {
	code, _, _ := strings.Cut(deref(p.LastError), ":")
	return m.Matches(p.ID, p.State, p.Engine, deref(p.ModelID), code)
}

// layOut makes the rows of the table again, and keeps the selected one selected.
func (m *Model) layOut() {
	var pools []row
	for i := range m.picture.Pools.Pools {
		if p := &m.picture.Pools.Pools[i]; m.matches(p) {
			pools = append(pools, row{key: p.ID, label: p.ID, pool: p, figures: m.figures[p.ID],
				folds: len(p.Replicas) > 0, folded: !m.opened[p.ID]})
		}
	}
	slices.SortStableFunc(pools, func(a, b row) int {
		return cmp.Or(m.Compare(&a, &b), cmp.Compare(a.pool.ID, b.pool.ID))
	})
	m.Rows = m.Rows[:0]
	if of := groupings()[m.Group].of; of != nil {
		m.addGroups(pools, of)
	} else {
		m.addPools(pools, 0)
	}
	_, visible := m.parts()
	m.Keep(visible)
}

// addGroups adds the pools by group, and a row with the sums of each.
func (m *Model) addGroups(pools []row, of func(*wire.Pool) string) {
	names, byName := listview.Grouped(pools, func(r *row) string { return of(r.pool) })
	for _, name := range names {
		g := row{key: "group " + name, label: listview.Label(name), members: len(byName[name]), folds: true,
			figures: &figures{}}
		g.folded = m.Folded[g.key]
		for _, r := range byName[name] {
			g.figures.sum(r.figures)
		}
		m.Rows = append(m.Rows, g)
		if !g.folded {
			m.addPools(byName[name], 1)
		}
	}
}

func (m *Model) addPools(pools []row, depth int) {
	for _, r := range pools {
		r.depth = depth
		m.Rows = append(m.Rows, r)
		if r.folded {
			continue
		}
		for j := range r.pool.Replicas {
			one := &r.pool.Replicas[j]
			key := r.pool.ID + "/" + one.ID
			m.Rows = append(m.Rows, row{key: key, label: one.ID, depth: depth + 1, pool: r.pool, replica: one,
				figures: m.figures[key]})
		}
	}
}

// fold hides or shows what is below the selected row; of a replica, below its pool.
func (m *Model) fold(folded bool) {
	r := m.Selected()
	switch {
	case r == nil:
		return
	case r.pool == nil:
		m.Folded[r.key] = folded
	case folded && r.replica == nil && r.folded:
		m.foldAbove()
	default:
		m.opened[r.pool.ID] = !folded
		m.Cursor = r.pool.ID
	}
	m.layOut()
}

// foldAbove hides the group of the selected pool.
func (m *Model) foldAbove() {
	for i := m.At; i >= 0; i-- {
		if m.Rows[i].pool == nil {
			m.Folded[m.Rows[i].key], m.Cursor = true, m.Rows[i].key
			return
		}
	}
}

// foldAll hides every row that can be hidden, or shows all of them.
func (m *Model) foldAll() {
	fold := slices.ContainsFunc(m.Rows, func(r row) bool { return r.folds && !r.folded && r.pool != nil })
	for i := range m.picture.Pools.Pools {
		m.opened[m.picture.Pools.Pools[i].ID] = !fold
	}
	m.layOut()
}
