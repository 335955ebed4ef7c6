package top

import (
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
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
		{"/", "only pools with a text in name, state, engine, model or error"},
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
	if do := listview.Global(k); do != nil {
		return []any{do}
	}
	switch {
	case m.ask != nil:
		return m.answer(k)
	case m.Typing:
		m.Type(k)
		m.layOut()
		return nil
	}
	m.note = ""
	switch m.Page {
	case listview.PageHelp:
		m.Page = listview.PageList
		return nil
	case listview.PageDetail:
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
	switch {
	case listview.Leaves(k):
		m.Page, m.pool, m.log, m.logEnd, m.Scroll = listview.PageList, "", nil, "", 0
		return []any{Follow{}}
	case k == "?" || k == "h":
		m.note = "Esc: back to the list, which has the page of keys"
	default:
		m.Scrolls(k)
	}
	return nil
}

func (m *Model) pressList(k term.Key) []any {
	r := m.Selected()
	if verb := verbs(k); verb != "" {
		if r == nil || r.pool == nil {
			m.note, m.noteBad = "select a pool", true
			return nil
		}
		m.asks(verb, r.pool.ID)
		return nil
	}
	_, visible := m.parts()
	switch {
	case m.Moves(k, visible):
		return nil
	case m.Orders(k):
		m.layOut()
		return nil
	}
	switch k {
	case "q":
		return []any{listview.Quit{}}
	case "?", "h":
		m.Page = listview.PageHelp
	case "/":
		m.Typing = true
	case term.Escape:
		m.Filter = ""
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
			m.Page, m.pool, m.Scroll, m.log, m.logEnd = listview.PageDetail, r.pool.ID, 0, nil, ""
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
