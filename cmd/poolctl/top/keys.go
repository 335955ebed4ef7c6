package top

import (
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// help is what each key does, as the page of keys and the man page have it.
func help() [][2]string {
	return [][2]string{
		{"Up Down j k", "select the row above or below; PgUp PgDn Home End likewise"},
		{"Enter", "the details of the selected pool, with its last log lines"},
		{"Right Left", "show or hide the replicas of a pool, the pools of a group"},
		{"a", "show or hide the replicas of all pools"},
		{"g", "put pools together by state, engine, model or GPU"},
		{"< >", "sort by the column to the left or right"},
		{"r", "sort the other way round"},
		{"/", "show only pools with a text in name, state, engine, model or error"},
		{"Esc", "leave a page, or show all pools again"},
		{"D", "drain the selected pool: no new work, then stop"},
		{"S", "resume it"},
		{"L", "reload it, as its file has it now"},
		{"X", "reset it: forget its failures, start it now"},
		{"Ctrl-L", "draw the screen again"},
		{"? h", "this page"},
		{"q Ctrl-C", "leave"},
	}
}

// verbs are the actions by key.
func verbs(k term.Key) string {
	switch k {
	case "D":
		return "drain"
	case "S":
		return "resume"
	case "L":
		return "reload"
	case "X":
		return "reset"
	}
	return ""
}

// consequence is what an action does, for the question before it.
func consequence(verb string) string {
	switch verb {
	case "drain":
		return "no new work; it stops when its work is done"
	case "resume":
		return "a drain ends; what was stopped is started"
	case "reload":
		return "it changes to what its file has"
	}
	return "failures are forgotten; what waits starts now"
}

// press does what a key means on the page that is shown.
func (m *Model) press(k term.Key) []any {
	switch k {
	case term.Interrupt:
		return []any{Quit{}}
	case term.Suspend:
		return []any{Suspend{}}
	case term.Refresh:
		return []any{Redraw{}}
	}
	switch {
	case m.ask != nil:
		return m.answer(k)
	case m.typing:
		m.typeFilter(k)
		return nil
	}
	m.note = ""
	switch m.page {
	case pageHelp:
		m.page = pageList
		return nil
	case pageDetail:
		return m.pressDetail(k)
	}
	return m.pressList(k)
}

// answer takes the key after a question: only y is a yes.
func (m *Model) answer(k term.Key) []any {
	do := *m.ask
	m.ask = nil
	if k == "y" || k == "Y" {
		m.note, m.noteBad = do.Verb+" of "+do.Pool+" is requested", false
		return []any{do}
	}
	m.note, m.noteBad = "nothing was done", false
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
	m.layOut()
}

// asks begins an action of the selected pool, which a y confirms.
func (m *Model) asks(verb, pool string) {
	if m.trouble != nil {
		m.note, m.noteBad = "the manager does not answer; nothing was done", true
		return
	}
	m.ask = &Do{verb, pool}
}

func (m *Model) pressDetail(k term.Key) []any {
	if verb := verbs(k); verb != "" {
		m.asks(verb, m.pool)
		return nil
	}
	switch k {
	case term.Escape, "q", term.LeftKey, term.Enter, term.Backspace:
		m.page, m.pool, m.log, m.logEnd, m.scroll = pageList, "", nil, "", 0
		return []any{Follow{}}
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
	case "?", "h":
		m.note = "Esc: back to the list, which has the page of keys"
	}
	return nil
}

func (m *Model) pressList(k term.Key) []any {
	r := m.selected()
	if verb := verbs(k); verb != "" {
		if r == nil || r.pool == nil {
			m.note, m.noteBad = "select a pool", true
			return nil
		}
		m.asks(verb, r.pool.ID)
		return nil
	}
	if m.moved(k) || m.ordered(k) {
		return nil
	}
	switch k {
	case "q":
		return []any{Quit{}}
	case "?", "h":
		m.page = pageHelp
	case "/":
		m.typing = true
	case term.Escape:
		m.filter = ""
		m.layOut()
	case term.RightKey, "+":
		m.fold(false)
	case term.LeftKey, "-":
		m.fold(true)
	case "a":
		m.foldAll()
	case term.Enter:
		switch {
		case r == nil:
		case r.pool == nil:
			m.fold(!r.folded)
		default:
			m.page, m.pool, m.scroll, m.log, m.logEnd = pageDetail, r.pool.ID, 0, nil, ""
			return []any{Follow{r.pool.ID, unitsOf(r.pool)}}
		}
	}
	return nil
}

// unitsOf are the units of a pool's replicas.
func unitsOf(p *wire.Pool) []string {
	var units []string
	for i := range p.Replicas {
		units = append(units, p.Replicas[i].Unit)
	}
	return units
}

// moved reports whether a key moves the selection, and does so.
func (m *Model) moved(k term.Key) bool {
	_, visible := m.parts()
	switch k {
	case term.Up, "k":
		m.move(-1)
	case term.Down, "j":
		m.move(1)
	case term.PageUp:
		m.move(-visible)
	case term.PageDown, " ":
		m.move(visible)
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
	case "g":
		m.group = (m.group + 1) % len(groupings())
	default:
		return false
	}
	if k != "r" && k != "g" {
		m.reverse = m.sort > 1 // of numbers the greatest first, and of states the worst
	}
	m.layOut()
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
