package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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

// column is one of the table.
type column struct {
	name  string // for people
	title string
	width int
	left  bool // text; numbers are aligned on the right
	cell  func(r *row) string
	order func(a, b *row) int
}

// columns are all, from the left. The first takes what width is left.
func columns() []column {
	return []column{
		{"name", "POOL", 0, true, func(r *row) string { return r.label },
			func(a, b *row) int { return cmp.Compare(a.pool.ID, b.pool.ID) }},
		{"state", "STATE", 9, true, (*row).state, func(a, b *row) int { return cmp.Compare(rank(b), rank(a)) }},
		{"slots", "USED", 7, false, func(r *row) string { return r.figures.slots() },
			func(a, b *row) int { return cmp.Compare(a.figures.used, b.figures.used) }},
		{"requests", "REQS", 4, false, func(r *row) string { return count(r.figures.requests) },
			func(a, b *row) int { return compare(a.figures.requests, b.figures.requests) }},
		{"tokens", "TOK/S", 5, false, func(r *row) string { return short(r.figures.tokens) },
			func(a, b *row) int { return compare(a.figures.tokens, b.figures.tokens) }},
		{"first token", "FIRST", 6, false, func(r *row) string { return millis(r.figures.first) },
			func(a, b *row) int { return compare(a.figures.first, b.figures.first) }},
		{"VRAM", "VRAM", 5, false, func(r *row) string { return size(r.figures.vram) },
			func(a, b *row) int { return compare(a.figures.vram, b.figures.vram) }},
		{"RAM", "RAM", 5, false, func(r *row) string { return size(r.figures.ram) },
			func(a, b *row) int { return compare(a.figures.ram, b.figures.ram) }},
		{"pressure", "PRES", 4, false, func(r *row) string { return percent(r.figures.pressure) },
			func(a, b *row) int { return compare(a.figures.pressure, b.figures.pressure) }},
		{"restarts", "RST", 4, false, func(r *row) string { return fmt.Sprint(r.figures.restarts) },
			func(a, b *row) int { return cmp.Compare(a.figures.restarts, b.figures.restarts) }},
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
func matches(p *wire.Pool, text string) bool {
	text = strings.ToLower(text)
	code, _, _ := strings.Cut(deref(p.LastError), ":")
	return slices.ContainsFunc([]string{p.ID, p.State, p.Engine, deref(p.ModelID), code}, func(word string) bool {
		return strings.Contains(strings.ToLower(word), text)
	})
}

// layOut makes the rows of the table again, and keeps the selected one selected.
func (m *Model) layOut() {
	var pools []row
	for i := range m.picture.Pools.Pools {
		if p := &m.picture.Pools.Pools[i]; matches(p, m.filter) {
			pools = append(pools, row{key: p.ID, label: p.ID, pool: p, figures: m.figures[p.ID],
				folds: len(p.Replicas) > 0, folded: !m.opened[p.ID]})
		}
	}
	order := columns()[m.sort].order
	slices.SortStableFunc(pools, func(a, b row) int {
		by := order(&a, &b)
		if m.reverse {
			by = -by
		}
		return cmp.Or(by, cmp.Compare(a.pool.ID, b.pool.ID))
	})
	m.rows = m.rows[:0]
	if of := groupings()[m.group].of; of != nil {
		m.addGroups(pools, of)
	} else {
		m.addPools(pools, 0)
	}
	if at := slices.IndexFunc(m.rows, func(r row) bool { return r.key == m.cursor }); at >= 0 {
		m.at = at
	}
	m.move(0)
}

// addGroups adds the pools by group, and a row with the sums of each.
func (m *Model) addGroups(pools []row, of func(*wire.Pool) string) {
	byName := make(map[string][]row)
	var names []string
	for _, r := range pools {
		name := of(r.pool)
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = append(byName[name], r)
	}
	slices.Sort(names)
	for _, name := range names {
		g := row{key: "group " + name, label: name, members: len(byName[name]), folds: true, figures: &figures{}}
		if g.folded = m.folded[g.key]; name == "" {
			g.label = "(none)"
		}
		for _, r := range byName[name] {
			g.figures.sum(r.figures)
		}
		m.rows = append(m.rows, g)
		if !g.folded {
			m.addPools(byName[name], 1)
		}
	}
}

func (m *Model) addPools(pools []row, depth int) {
	for _, r := range pools {
		r.depth = depth
		m.rows = append(m.rows, r)
		if r.folded {
			continue
		}
		for j := range r.pool.Replicas {
			one := &r.pool.Replicas[j]
			key := r.pool.ID + "/" + one.ID
			m.rows = append(m.rows, row{key: key, label: one.ID, depth: depth + 1, pool: r.pool, replica: one,
				figures: m.figures[key]})
		}
	}
}

// move selects the row that is n below the selected one, or the nearest.
func (m *Model) move(n int) {
	if m.at = max(0, min(m.at+n, len(m.rows)-1)); len(m.rows) > 0 {
		m.cursor = m.rows[m.at].key
	}
	_, visible := m.parts()
	m.top = max(0, min(m.top, m.at, len(m.rows)-visible))
	m.top = max(m.top, m.at-visible+1)
}

// selected is the row under the cursor, nil where there is none.
func (m *Model) selected() *row {
	if m.at >= len(m.rows) {
		return nil
	}
	return &m.rows[m.at]
}

// fold hides or shows what is below the selected row; of a replica, below its pool.
func (m *Model) fold(folded bool) {
	r := m.selected()
	switch {
	case r == nil:
		return
	case r.pool == nil:
		m.folded[r.key] = folded
	case folded && r.replica == nil && r.folded:
		m.foldAbove()
	default:
		m.opened[r.pool.ID] = !folded
		m.cursor = r.pool.ID
	}
	m.layOut()
}

// foldAbove hides the group of the selected pool.
func (m *Model) foldAbove() {
	for i := m.at; i >= 0; i-- {
		if m.rows[i].pool == nil {
			m.folded[m.rows[i].key], m.cursor = true, m.rows[i].key
			return
		}
	}
}

// foldAll hides every row that can be hidden, or shows all of them.
func (m *Model) foldAll() {
	fold := slices.ContainsFunc(m.rows, func(r row) bool { return r.folds && !r.folded && r.pool != nil })
	for i := range m.picture.Pools.Pools {
		m.opened[m.picture.Pools.Pools[i].ID] = !fold
	}
	m.layOut()
}
