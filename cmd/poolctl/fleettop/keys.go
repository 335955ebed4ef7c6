package fleettop

import (
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/top"
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
	switch k {
	case term.Interrupt:
		return []any{top.Quit{}}
	case term.Suspend:
		return []any{top.Suspend{}}
	case term.Refresh:
		return []any{top.Redraw{}}
	}
	switch {
	case m.typing:
		m.typeFilter(k)
	case m.page == pageHelp:
		m.page = pageList
	case m.page == pageDetail:
		m.pressDetail(k)
	case k == "q":
		return []any{top.Quit{}}
	default:
		m.pressList(k)
	}
	m.stale = true
	return nil
}

func (m *Model) typeFilter(k term.Key) {
	switch {
	case k == term.Enter:
		m.typing = false
	case k == term.Escape:
		m.typing, m.filter = false, ""
	case k == term.Backspace:
		_, n := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-n]
	case utf8.RuneCountInString(string(k)) == 1 && len(m.filter) < 64:
		m.filter += string(k)
	}
}

func (m *Model) pressDetail(k term.Key) {
	switch k {
	case term.Escape, "q", term.LeftKey, term.Enter, term.Backspace:
		m.page, m.detail, m.scroll = pageList, "", 0
	case term.Down, "j":
		m.scroll++
	case term.Up, "k":
		m.scroll = max(0, m.scroll-1)
	case term.PageDown, " ":
		m.scroll += m.size.Height / 2
	case term.PageUp:
		m.scroll = max(0, m.scroll-m.size.Height/2)
	case term.Home:
		m.scroll = 0
	}
}

func (m *Model) pressList(k term.Key) {
	if m.moved(k) || m.ordered(k) {
		return
	}
	r := m.selected()
	switch k {
	case "?", "h":
		m.page = pageHelp
	case "/":
		m.typing = true
	case term.Escape:
		m.filter = ""
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
			m.page, m.detail, m.scroll = pageDetail, r.key, 0
		}
	}
}

// fold hides or shows what is below a group, or hides the group that a pool is in.
func (m *Model) fold(r *row, hide bool) {
	switch {
	case r == nil:
	case r.pool == nil:
		m.folded[r.key] = hide
	case r.below && hide:
		m.cursor = "group " + groupings()[m.group].of(r.pool)
		m.folded[m.cursor] = true
	}
}

// foldAll folds all groups, or unfolds them where all are folded.
func (m *Model) foldAll() {
	hide := false
	for i := range m.rows {
		hide = hide || m.rows[i].pool == nil && !m.rows[i].folded
	}
	for i := range m.rows {
		if m.rows[i].pool == nil {
			m.folded[m.rows[i].key] = hide
		}
	}
}

// moved reports whether a key moves the selection, and does so.
func (m *Model) moved(k term.Key) bool {
	switch k {
	case term.Up, "k":
		m.move(-1)
	case term.Down, "j":
		m.move(1)
	case term.PageUp:
		m.move(-m.room())
	case term.PageDown, " ":
		m.move(m.room())
	case term.Home:
		m.move(-len(m.rows))
	case term.End, "G":
		m.move(len(m.rows))
	default:
		return false
	}
	return true
}

// ordered reports whether a key changes the order or the groups, and does so.
func (m *Model) ordered(k term.Key) bool {
	n := len(columns())
	switch k {
	case "<", ",":
		m.sort = (m.sort + n - 1) % n
	case ">", ".":
		m.sort = (m.sort + 1) % n
	case "r":
		m.reverse = !m.reverse
		return true
	case "g":
		m.group = (m.group + 1) % len(groupings())
		return true
	default:
		return false
	}
	m.reverse = m.sort >= firstNumber && m.sort < n-1
	return true
}

// shownAs describes order, groups and filter for the line below the title.
func (m *Model) shownAs() string {
	parts := []string{"by " + columns()[m.sort].name}
	if m.reverse {
		parts[0] += " (reverse)"
	}
	if m.group > 0 {
		parts = append(parts, "grouped by "+groupings()[m.group].name)
	}
	switch {
	case m.typing:
		parts = append(parts, "only with: "+m.filter+"_")
	case m.filter != "":
		parts = append(parts, "only with: "+m.filter)
	}
	return strings.Join(parts, ", ")
}
