package fleettop

import (
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
)

// help is what each key does.
func help() [][2]string {
	return [][2]string{
		{"Up Down k j", "select a pool; PgUp PgDn Home End G"},
		{"Enter", "details of the pool; fold a group"},
		{"Left Right - +", "fold and unfold a group; a: all of them"},
		{"/", "only pools with a text in host, id, state, engine, model or error code; Esc: all"},
		{"< >", "order by the column to the left, to the right; r: reverse"},
		{"g", "groups: by host, model, state, engine, none"},
		{"Ctrl-L", "draw the screen again"},
		{"? h", "this page"},
		{"q Ctrl-C", "leave"},
	}
}

// press does what a key means on the page that is shown.
func (m *Model) press(k term.Key) []any {
	m.layOut()
	if do := listview.Global(k); do != nil {
		return []any{do}
	}
	switch {
	case m.Typing:
		m.Type(k)
	case m.Page == listview.PageHelp:
		m.Page = listview.PageList
	case m.Page == listview.PageDetail && listview.Leaves(k):
		m.Page, m.detail, m.Scroll = listview.PageList, "", 0
	case m.Page == listview.PageDetail:
		m.Scrolls(k)
	case k == "q":
		return []any{listview.Quit{}}
	default:
		m.pressList(k)
	}
	m.stale = true
	return nil
}

func (m *Model) pressList(k term.Key) {
	if m.Moves(k, m.room()) || m.Orders(k) {
		return
	}
	r := m.Selected()
	switch k {
	case "?", "h":
		m.Page = listview.PageHelp
	case "/":
		m.Typing = true
	case term.Escape:
		m.Filter = ""
	case term.RightKey, "+", term.LeftKey, "-":
		m.fold(r, k == term.LeftKey || k == "-")
	case "a":
		m.foldAll()
	case term.Enter:
		switch {
		case r == nil:
		case r.pool == nil:
			m.fold(r, !r.folded)
		default:
			m.Page, m.detail, m.Scroll = listview.PageDetail, r.key, 0
		}
	}
}

// fold hides or shows what is below a group, or hides the group that a pool is in.
func (m *Model) fold(r *row, hide bool) {
	switch {
	case r == nil:
	case r.pool == nil:
		m.Folded[r.key] = hide
	case r.below && hide:
		m.Cursor = "group " + groupings()[m.Group].of(r.pool)
		m.Folded[m.Cursor] = true
	}
}

// foldAll folds all groups, or unfolds them where all are folded.
func (m *Model) foldAll() {
	hide := false
	for i := range m.Rows {
		hide = hide || m.Rows[i].pool == nil && !m.Rows[i].folded
	}
	for i := range m.Rows {
		if m.Rows[i].pool == nil {
			m.Folded[m.Rows[i].key] = hide
		}
	}
}
