package supervise

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// offloadLog is a journal in which each run has these lines.
type offloadLog struct {
	logOf
	lines []string
	err   error
	reads *int
}

func (l offloadLog) Read(_ context.Context, q systemd.JournalQuery, _ int) ([]systemd.JournalEntry, error) {
	*l.reads++
	ofUnit := func(m string) bool { return strings.HasPrefix(m, "_SYSTEMD_UNIT=pool-engine@") }
	if q.Grep == "" || !slices.ContainsFunc(q.Matches, ofUnit) {
		return nil, errors.New("the query takes any line")
	}
	var entries []systemd.JournalEntry
	for _, line := range l.lines {
		entries = append(entries, systemd.JournalEntry{Fields: map[string]string{"MESSAGE": line}})
	}
	return entries, l.err
}

// TestGPULayers: what an engine logs of its layers is shown with its state, read once for each run,
// and warned of where the pool did not ask for it.
func TestGPULayers(t *testing.T) {
	const part = "load_tensors: offloaded 10/33 layers to GPU"
	const whole = "load_tensors: offloaded 33/33 layers to GPU"
	const draft = "load_tensors: offloaded 0/17 layers to GPU"
	for _, c := range []struct {
		name   string
		change func(*pool.Pool)
		lines  []string
		err    error
		want   []registry.Layers
		reason string // added to it
		warned bool
	}{
		{"whole", nil, []string{whole}, nil, []registry.Layers{{OnGPU: 33, Of: 33}}, "", false},
		{"part", nil, []string{part}, nil, []registry.Layers{{OnGPU: 10, Of: 33}}, "; 10 of 33 layers are on the GPU", true},
		{"part_as_asked", func(p *pool.Pool) { p.Args = []string{"-ngl", "10"} }, []string{part}, nil, []registry.Layers{{OnGPU: 10, Of: 33}},
			"; 10 of 33 layers are on the GPU", false},
		{"draft", nil, []string{whole, draft}, nil, []registry.Layers{{OnGPU: 33, Of: 33}, {Of: 17}}, "; 33 of 33 and 0 of 17 layers are on the GPU", true},
		{"draft_as_asked", func(p *pool.Pool) { p.Args = []string{"-ngld", "0"} }, []string{whole, draft}, nil,
			[]registry.Layers{{OnGPU: 33, Of: 33}, {Of: 17}}, "; 33 of 33 and 0 of 17 layers are on the GPU", false},
		{"not_logged", nil, []string{"offloaded 1/x layers"}, nil, nil, "", false},
		{"no_journal", nil, nil, errors.New("no journal"), nil, "", false},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			h, reads := twoGPUs(), 0
			p := onGPU("a", "0")
			if c.change != nil {
				c.change(&p)
			}
			var log bytes.Buffer
			m := w.manage(t, pools(p), withGPUs(h), func(o *Options) {
				o.Journal = offloadLog{logOf{h}, c.lines, c.err, &reads}
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
			})
			h.tell()
			w.passGate(unitOf("a"))
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateReady, true)
			r := m.pool("a").Replicas[0]
			if !slices.Equal(r.GPULayers, c.want) || !strings.HasSuffix(r.Reason, c.reason) ||
				c.reason == "" && strings.Contains(r.Reason, "layers") {
				t.Errorf("layers %v, reason %q", r.GPULayers, r.Reason)
			}
			if reads != 1 {
				t.Errorf("the log was read %d times", reads)
			}
			m.kill()
			if warned := strings.Contains(log.String(), "left a part of its model"); warned != c.warned {
				t.Errorf("warned: %t\n%s", warned, &log)
			}
		})
	}
	scenario(t, "of_a_pool_without_gpus_nothing_is_read", func(t *testing.T, w *world) {
		h, reads := twoGPUs(), 0
		m := w.manage(t, pools(llama("a")), withGPUs(h), func(o *Options) {
			o.Journal = offloadLog{logOf{h}, []string{part}, nil, &reads}
		})
		w.passGate(unitOf("a"))
		time.Sleep(time.Minute)
		if r := m.pool("a").Replicas[0]; len(r.GPULayers) != 0 || reads != 0 {
			t.Errorf("layers %v after %d readings", r.GPULayers, reads)
		}
	})
}
