package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
)

// question is what explain is asked about the past of a pool.
type question struct {
	stopped   bool
	restarted bool
}

// note is one thing that happened to a replica.
type note struct {
	At      time.Time `json:"-"`
	AtMS    int64     `json:"at_ms"`
	By      string    `json:"by"` // who wrote it: manager, PID 1, or a caller
	Text    string    `json:"text"`
	Error   string    `json:"last_error,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	reason  string    // of an end
	replica string
	of      turn
	run     string // of the manager
}

// turn is what a note means for a replica.
type turn int

const (
	turnNone  turn = iota
	turnReady      // it serves
	turnStart      // a process begins
	turnEnd        // it serves no longer, or its process ended
)

// outage is a time in which a replica did not serve, or what came before it served for the first
// time.
type outage struct {
	Replica  string          `json:"id"`
	SinceMS  int64           `json:"since_ms"`
	UntilMS  *int64          `json:"until_ms"` // null: it does not serve now
	Why      string          `json:"why"`
	Hint     string          `json:"hint,omitempty"`
	Starts   int             `json:"starts"`           // of processes meanwhile
	Managers int             `json:"manager_restarts"` // since it began
	Notes    []note          `json:"notes"`
	standing map[string]bool // errors that were there before it began, and ended nothing
}

// before is how long before an end what led to it is looked for: a request is logged beside it.
const before = 5 * time.Second

// outagesOf returns those of one replica, oldest first. notes are in order of time.
func outagesOf(replica string, notes []note) []outage {
	var out []outage
	var open *outage
	run, from := "", 0
	reported := make(map[string]time.Time) // errors while it serves, and when first
	for i, n := range notes {
		if n.run != "" && n.run != run {
			for k := range out {
				if run != "" {
					out[k].Managers++
				}
			}
			run = n.run
		}
		if n.replica != replica && n.replica != "" {
			continue
		}
		if n.of == turnEnd && open == nil {
			out = append(out, outage{Replica: replica, SinceMS: n.AtMS, standing: standing(reported, n.At)})
			open, from = &out[len(out)-1], i
			for k := firstBefore(notes, i, replica); k < i; k++ {
				if notes[k].replica == "" || notes[k].replica == replica {
					open.Notes = append(open.Notes, notes[k])
				}
			}
		}
		if open == nil {
			if _, known := reported[n.Error]; n.Error != "" && !known {
				reported[n.Error] = n.At
			}
			continue
		}
		open.add(n)
		if n.of == turnReady && i > from {
			open.UntilMS, open = &n.AtMS, nil
			clear(reported)
		}
	}
	for i := range out {
		out[i].reason()
	}
	return out
}

// standing are the errors that were reported well before an end: what ends an engine is reported
// with its end.
func standing(reported map[string]time.Time, end time.Time) map[string]bool {
	all := make(map[string]bool)
	for text, at := range reported {
		if end.Sub(at) > time.Second {
			all[text] = true
		}
	}
	return all
}

// firstBefore is the first note of what may have led to an end: shortly before it, and since the
// replica served or was started.
func firstBefore(notes []note, end int, replica string) int {
	k := end
	for k > 0 && notes[end].At.Sub(notes[k-1].At) <= before &&
		(notes[k-1].replica != replica || notes[k-1].of == turnNone) {
		k--
	}
	return k
}

func (o *outage) add(n note) {
	if n.of == turnStart {
		o.Starts++
	}
	o.Notes = append(o.Notes, n)
}

// reason sets why it began: the first error of an end, else what the manager wrote of the end, else
// what PID 1 wrote. Other errors are beside it: a pool file that is wrong ends no engine, and goes
// on being reported by a drain that ends it.
func (o *outage) reason() {
	for _, n := range o.Notes {
		if n.of == turnEnd && n.Error != "" && !o.standing[n.Error] {
			o.Why, o.Hint = n.Error, n.Hint
			return
		}
	}
	for _, by := range []string{byManager, byPID1} {
		for _, n := range o.Notes {
			if n.of == turnEnd && n.By == by {
				o.Why = n.reason
				return
			}
		}
	}
}

// restartOf cuts an outage to its last start, and what led to that.
func (o outage) restartOf() (outage, bool) {
	start := -1
	for i, n := range o.Notes {
		if n.of == turnStart {
			start = i
		}
	}
	if start < 0 {
		return o, false
	}
	from := 0
	for i := start - 1; i > 0; i-- { // back to the process before
		if o.Notes[i].of == turnStart {
			from = i + 1
			break
		}
	}
	o.Notes = o.Notes[from:]
	since := max(0, slices.IndexFunc(o.Notes, func(n note) bool { return n.of == turnEnd }))
	o.SinceMS, o.Starts, o.Why, o.Hint = o.Notes[since].AtMS, 1, "", ""
	o.reason()
	return o, true
}

// whyAnswer is the answer.
type whyAnswer struct {
	Pool    string   `json:"id"`
	From    string   `json:"from"`     // journal or events
	FirstMS *int64   `json:"first_ms"` // of what was looked through; null: there is nothing
	Outages []outage `json:"outages"`
}

// explainPast answers from the journal, which outlives the manager, and where this user may not
// read it, from the events of the manager since its start.
func (a *app) explainPast(ctx context.Context, id string, q question) error {
	notes, from := a.journalNotes(ctx, id), "journal"
	if len(notes) == 0 {
		var err error
		if notes, err = a.eventNotes(ctx, id); err != nil {
			return err
		}
		from = "events"
	}
	slices.SortStableFunc(notes, func(x, y note) int { return x.At.Compare(y.At) })
	answer := whyAnswer{Pool: id, From: from, Outages: []outage{}}
	if len(notes) > 0 {
		answer.FirstMS = &notes[0].AtMS
	}
	for _, replica := range replicasIn(notes) {
		all := outagesOf(replica, notes)
		for i := len(all) - 1; i >= 0; i-- {
			last, ok := all[i], true
			if q.restarted {
				last, ok = last.restartOf()
			}
			if ok {
				answer.Outages = append(answer.Outages, last)
				break
			}
		}
	}
	if a.o.output == formatJSON {
		return a.printJSON(answer)
	}
	return a.printPast(answer, q)
}

func replicasIn(notes []note) []string {
	var names []string
	for _, n := range notes {
		if n.replica != "" {
			names = append(names, n.replica)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pastLines is how many lines of an outage are printed: the first and the last.
const pastLines = 24

func (a *app) printPast(answer whyAnswer, q question) error {
	var b strings.Builder
	for i, o := range answer.Outages {
		if i > 0 {
			b.WriteString("\n")
		}
		a.printOutage(&b, answer.Pool, o, q)
	}
	if len(answer.Outages) == 0 {
		b.WriteString(nothingFound(answer, q) + "\n")
	}
	if answer.From == "events" {
		b.WriteString("\nThis is from the manager's events since its start. The journal has what came before: " +
			"run this as " +
			"root, or in the\ngroup systemd-journal.\n")
	}
	_, err := io.WriteString(a.out, safe.Text(b.String()))
	return err
}

func nothingFound(answer whyAnswer, q question) string {
	what := "did not stop"
	if q.restarted {
		what = "was not restarted"
	}
	if answer.FirstMS == nil {
		return "Nothing is known of " + answer.Pool + ": neither the journal nor the manager has a word about it."
	}
	return fmt.Sprintf("%s %s since %s, as far back as the %s go.", answer.Pool, what, moment(*answer.FirstMS),
		map[string]string{"journal": "journal's lines", "events": "manager's events"}[answer.From])
}

func moment(ms int64) string { return time.UnixMilli(ms).Format(time.DateTime) }

func (a *app) printOutage(b *strings.Builder, id string, o outage, q question) {
	verb := "stopped serving"
	if q.restarted {
		verb = "was last restarted"
	}
	fmt.Fprintf(b, "%s %s %s %s ago, at %s", id, o.Replica, verb, ago(a.now(), &o.SinceMS), moment(o.SinceMS))
	if o.UntilMS != nil {
		fmt.Fprintf(b, ", and serves again since %s\n", moment(*o.UntilMS))
	} else {
		b.WriteString(", and does not serve now\n")
	}
	if o.Why != "" {
		fmt.Fprintf(b, "Why:   %s\n", clean(o.Why))
	}
	if o.Hint != "" {
		fmt.Fprintf(b, "Hint:  %s\n", clean(o.Hint))
	}
	b.WriteString("\n")
	for i, n := range o.Notes {
		if skipped := len(o.Notes) - pastLines; skipped > 0 && i >= pastLines/2 && i < pastLines/2+skipped {
			if i == pastLines/2 {
				fmt.Fprintf(b, "  … %d lines more; poolctl logs %s has all\n", skipped, id)
			}
			continue
		}
		fmt.Fprintf(b, "  %s  %-8s %s\n", moment(n.AtMS), clean(n.By), clean(n.Text))
	}
	switch {
	case o.Managers == 1:
		b.WriteString("\nThe manager was restarted since.\n")
	case o.Managers > 1:
		fmt.Fprintf(b, "\nThe manager was restarted %d times since.\n", o.Managers)
	}
}
