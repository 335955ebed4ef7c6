package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

func (m *Model) helpPage() []term.Line {
	lines := []term.Line{m.bar("KEYS", 0)}
	for _, k := range help() {
		lines = append(lines, term.Line{{Text: term.Left("  "+k[0], 16), Style: term.Bold}, {Text: k[1]}})
	}
	for _, text := range []string{
		"REQS: requests that the engines work on. TOK/S and FIRST: tokens a second and the time to the first one.",
		"RAM: main memory, page cache included. PRES: share of the last 10 s in which a task waited for memory. RST: restarts.",
	} {
		for _, l := range term.Wrap(text, m.size.Width-4) {
			lines = append(lines, plain("  "+l))
		}
	}
	return lines
}

// detailPage is what is known of a pool, and the end of its log.
func (m *Model) detailPage() []term.Line {
	at := slices.IndexFunc(m.picture.Pools.Pools, func(p wire.Pool) bool { return p.ID == m.pool })
	if at < 0 {
		return []term.Line{m.bar(m.pool, 0), plain("this pool is gone")}
	}
	p := &m.picture.Pools.Pools[at]
	facts := m.facts(p)
	room := m.size.Height - 4 // title, second, the name, footer
	logRoom := max(4, room-len(facts))
	factRoom := room - logRoom
	m.scroll = max(0, min(m.scroll, len(facts)-factRoom))
	lines := []term.Line{m.bar("POOL "+p.ID, 0)}
	lines = append(lines, facts[m.scroll:min(len(facts), m.scroll+factRoom)]...)
	return append(lines, m.logLines(p, logRoom)...)
}

// facts are lines of "name: value", long values on several lines.
func (m *Model) facts(p *wire.Pool) []term.Line {
	const names = 12
	var lines []term.Line
	add := func(name, value string, style term.Style) {
		for i, text := range term.Wrap(value, m.size.Width-names) {
			if i > 0 {
				name = ""
			}
			lines = append(lines, term.Line{{Text: term.Left(name, names)}, {Text: text, Style: style}})
		}
	}
	f := m.figures[p.ID]
	add("State", p.State, StateStyle(p.State))
	add("Error", deref(p.LastError), term.Bold)
	add("Hint", deref(p.Hint), 0)
	add("Model", deref(p.ModelID), 0)
	add("Engine", strings.TrimSpace(p.Engine+" "+deref(p.EngineVersion)), 0)
	add("Devices", strings.Join(p.DeviceMask, " "), 0)
	if s := p.Staging; s != nil {
		add("Download", s.Progress(), 0)
	}
	add("Work", fmt.Sprintf("slots %s, requests %s, leases %d, tokens/s %s, first token %s", f.slots(),
		count(f.requests), p.ActiveLeases, short(f.tokens), millis(f.first)), 0)
	add("Memory", fmt.Sprintf("VRAM %s, RAM %s, pressure %s", size(f.vram), size(f.ram), percent(f.pressure)), 0)
	breaker := ""
	if p.Breaker != nil {
		breaker = ", breaker " + *p.Breaker
	}
	add("Restarts", fmt.Sprintf("%d, %d since a stable run%s", p.RestartCount, p.RestartsSinceStable, breaker), 0)
	for i := range p.Replicas {
		r := &p.Replicas[i]
		add("Replica "+r.ID, strings.Join(slices.DeleteFunc([]string{r.State, pid(r.PID), deref(r.Endpoint), r.Unit},
			func(s string) bool { return s == "" }), "  "), 0)
		add("", r.Reason, 0)
	}
	return lines
}

func pid(n *int) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("pid %d", *n)
}

// logLines are the newest lines of the pool's log; without them, the last ones that the API has.
func (m *Model) logLines(p *wire.Pool, room int) []term.Line {
	lines, title := m.log, "LOG"
	if len(lines) == 0 && p.Details != nil && len(p.Details.Lines) > 0 {
		lines, title = p.Details.Lines, "LAST LOG LINES OF THE RUN THAT ENDED"
	}
	if m.logEnd != "" {
		title += "  (" + m.logEnd + ")"
	}
	out := []term.Line{m.bar(title, 0)}
	for _, l := range lines[max(0, len(lines)-room+1):] {
		out = append(out, plain(l))
	}
	return out
}
