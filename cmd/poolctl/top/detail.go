package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// detailPage is what is known of a pool, and the end of its log.
func (m *Model) detailPage() []term.Line {
	at := slices.IndexFunc(m.picture.Pools.Pools, func(p wire.Pool) bool { return p.ID == m.pool })
	if at < 0 {
		return []term.Line{m.Bar(m.pool, 0), listview.Plain("this pool is gone")}
	}
	p := &m.picture.Pools.Pools[at]
	facts := m.facts(p)
	room := m.Height - 4 // title, second, the name, footer
	logRoom := max(4, room-len(facts))
	factRoom := room - logRoom
	lines := []term.Line{m.Bar("POOL "+p.ID, 0)}
	lines = append(lines, m.Visible(facts, factRoom)...)
	return append(lines, m.logLines(p, logRoom)...)
}

// facts are lines of "name: value", long values on several lines.
func (m *Model) facts(p *wire.Pool) []term.Line {
	facts := listview.Facts{Width: m.Width}
	add := facts.Add
	f := m.figures[p.ID]
	add("State", p.State, listview.StateStyle(p.State))
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
	return facts.Lines
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
	out := []term.Line{m.Bar(title, 0)}
	for _, l := range lines[max(0, len(lines)-room+1):] {
		out = append(out, listview.Plain(l))
	}
	return out
}
