package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// recordedUnits is a PID 1 that records what is asked of it.
type recordedUnits struct {
	state string // of the unit; empty: it is not loaded
	fail  error

	mu    sync.Mutex
	calls []string
}

func (r *recordedUnits) call(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return r.fail
}

func (r *recordedUnits) List(context.Context, string) ([]systemd.Listed, error) {
	if r.state == "" {
		return nil, nil
	}
	return []systemd.Listed{{Name: fleetUnit, ActiveState: r.state}}, nil
}

func (r *recordedUnits) Start(_ context.Context, unit string) (*systemd.Job, error) {
	return nil, r.call("start %s", unit)
}

func (r *recordedUnits) Stop(_ context.Context, unit string) (*systemd.Job, error) {
	return nil, r.call("stop %s", unit)
}

func (r *recordedUnits) Kill(_ context.Context, unit, who string, sig syscall.Signal) error {
	return r.call("%s to %s of %s", sig, who, unit)
}

// TestPublisher: the unit that publishes this host runs exactly where the configuration wants it.
func TestPublisher(t *testing.T) {
	wanted := hostconfig.Fleet{Orchestrator: hostconfig.Orchestrator{URL: "http://orchestrator.invalid",
		Interval: 10 * time.Second}}
	for _, c := range []struct {
		name, state string
		fleet       hostconfig.Fleet
		reload      bool
		former      bool // the file of a manager before has the same settings
		want        string
	}{
		{"not_wanted_and_never_started", "", hostconfig.Fleet{}, false, false, ""},
		{"not_wanted_and_stopped", "inactive", hostconfig.Fleet{}, true, false, ""},
		{"no_longer_wanted", "active", hostconfig.Fleet{}, true, true, "stop pool-fleet.service"},
		{"no_longer_wanted_between_two_starts", "activating", hostconfig.Fleet{}, true, true, "stop pool-fleet.service"},
		{"wanted", "", wanted, true, false, "start pool-fleet.service"},
		{"wanted_after_a_failure", "failed", wanted, true, false, "start pool-fleet.service"},
		{"wanted_still", "active", wanted, true, true, "hangup to main of pool-fleet.service"},
		{"the_manager_started_again", "active", wanted, false, true, ""},
		{"the_manager_started_again_with_other_settings", "active", wanted, false, false,
			"hangup to main of pool-fleet.service"},
	} {
		t.Run(c.name, func(t *testing.T) {
			units := &recordedUnits{state: c.state}
			p := newPublisher(units, filepath.Join(t.TempDir(), "fleet.json"), slog.New(slog.DiscardHandler))
			if c.former {
				if _, err := p.write(wanted); err != nil {
					t.Fatal(err)
				}
			}
			p.apply(hostconfig.Fleet{}, false) // replaced before it is taken
			p.apply(c.fleet, c.reload)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			p.run(ctx)
			if got := strings.Join(units.calls, "; "); got != c.want {
				t.Errorf("PID 1 was asked %q, want %q", got, c.want)
			}
			if !c.fleet.Wanted() {
				return
			}
			if s, err := fleet.ReadSettings(p.file); err != nil || s.Orchestrator.URL != wanted.Orchestrator.URL ||
				s.Orchestrator.Interval() != wanted.Orchestrator.Interval {
				t.Errorf("pool-fleet reads %+v, %v", s, err)
			}
		})
	}
	t.Run("a_failure_is_tried_again_and_logged_once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			units := &recordedUnits{fail: errors.New("no")}
			var log strings.Builder
			p := newPublisher(units, filepath.Join(t.TempDir(), "fleet.json"), slog.New(slog.NewTextHandler(&log, nil)))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			defer cancel()
			p.apply(wanted, true)
			p.run(ctx)
			if len(units.calls) != 4 || strings.Count(log.String(), "could not start or stop") != 1 {
				t.Errorf("asked %v; log %s", units.calls, log.String())
			}
		})
	})
}
