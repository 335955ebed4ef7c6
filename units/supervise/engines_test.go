package supervise

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/probe"
)

// The engines of the world: what a probe or a question finds.

func (w *world) Schedule(guard func(func() error) error, deliver func([]probe.Result)) *probe.Schedule {
	return probe.NewSchedule(w.Probe, guard, deliver)
}

func (w *world) Probe(ctx context.Context, c probe.Check) error {
	w.mu.Lock()
	mute := w.mute["http://"+c.Host]
	w.mu.Unlock()
	if mute {
		return late(ctx, c.Timeout)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes = append(w.probes, probed{c.Host, time.Now()})
	if w.probeDies {
		panic("a broken answer")
	}
	switch {
	case w.ports.refuses(c.Host):
		return fmt.Errorf("nothing listens: %w", syscall.ECONNREFUSED)
	case w.sickWith != "":
		return errors.New(w.sickWith)
	case w.sick["http://"+c.Host]:
		return errors.New("status 500")
	}
	return nil
}

// late is a question that gets no answer.
func late(ctx context.Context, timeout time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(timeout):
		return errors.New("no answer in time")
	}
}

func (w *world) Generate(ctx context.Context, g probe.Generation) (probe.Outcome, error) {
	w.mu.Lock()
	w.note("generate %s %s", g.URL, g.Body)
	out := w.generation
	w.mu.Unlock()
	if out == probe.Unanswered {
		return out, late(ctx, g.Timeout)
	}
	if out != probe.Generated {
		return out, errors.New("no token")
	}
	return out, nil
}

func (w *world) Get(_ context.Context, url string, _ int64) ([]byte, error) {
	if strings.HasSuffix(url, "/metrics") {
		time.Sleep(w.metricsTake)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("get %s", url)
	if strings.HasSuffix(url, "/slots") {
		if w.progress != nil {
			return fmt.Appendf(nil, `[{"is_processing":true,"next_token":{"n_decoded":%d}}]`, w.progress()), nil
		}
		if w.deaf != nil {
			return nil, w.deaf
		}
		n := w.busy[strings.TrimSuffix(url, "/slots")]
		return []byte("[" + strings.TrimSuffix(strings.Repeat(`{"is_processing":true},`, n), ",") + "]"), nil
	}
	if strings.HasSuffix(url, "/metrics") {
		return []byte(w.deferred), nil
	}
	if w.keyless != nil {
		return nil, w.keyless
	}
	if w.slotsDie {
		panic("a broken answer")
	}
	if w.answers != "" {
		return []byte(w.answers), nil
	}
	return []byte(`{"total_slots":4}`), nil
}

func (w *world) UseKey(host string, read func() string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if read != nil {
		w.note("key %s", host)
	}
}

func (w *world) CloseIdle(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("close %s", host)
}
