package supervise

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// runLog is the log of ended runs.
type runLog struct {
	mu    sync.Mutex
	lines map[string][]string // by the run
	drops map[string][]string // what journald reports to have suppressed, by the run
	err   error
	asked []string
	out   bytes.Buffer // what the manager logs
}

func (l *runLog) Follow(ctx context.Context, _ systemd.JournalQuery, _ func(systemd.JournalEntry)) error {
	<-ctx.Done()
	return nil
}

// Read has the runs one after the other in the order of the query.
func (l *runLog) Read(_ context.Context, q systemd.JournalQuery, limit int) (out []systemd.JournalEntry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, strings.Join(q.Matches, " "))
	for _, match := range q.Matches {
		field, run, _ := strings.Cut(match, "=")
		if field == droppedOfField {
			for _, n := range l.drops[run] {
				out = append(out, systemd.JournalEntry{Fields: map[string]string{droppedField: n, field: run}})
			}
			continue
		}
		for _, line := range l.lines[run] {
			out = append(out, systemd.JournalEntry{Fields: map[string]string{"MESSAGE": line, field: run}})
		}
	}
	return out[max(0, len(out)-limit):], l.err
}

// reads are the queries so far.
func (l *runLog) reads() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

func (l *runLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// logged are the manager's lines that hold a text.
func (l *runLog) logged(text string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.out.String()) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}
