//go:build machine

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// The variables of a run. make test-chaos sets them.
const (
	seedEnv     = "CHAOS_SEED"     // a number; "random" draws one
	durationEnv = "CHAOS_DURATION" // of the rounds
	stepsEnv    = "CHAOS_STEPS"    // "ROUND.INDEX …": only these steps
	kindsEnv    = "CHAOS_KINDS"    // "NAME …": only these kinds of faults
	releaseEnv  = "CHAOS_RELEASE"
	vmEnv       = "CHAOS_VM" // not empty: a virtual machine
)

// The slice that runs with the other integration tests. Its seed is fixed: a failure there is one
// of the change that is tested.
const (
	sliceSeed     = 43
	sliceDuration = 3 * time.Minute
)

// lastRound is how much longer than its duration a run may take, where the machine is as fast as
// the host.
const lastRound = 5 * time.Minute

// TestChaos runs rounds of faults until the time is over.
func TestChaos(t *testing.T) {
	seed, duration := settings(t)
	cfg := machine.Config{Release: machine.Forky, Backend: machine.Container, Log: func(line string) { t.Log(line) }}
	if name := os.Getenv(releaseEnv); name != "" {
		var err error
		if cfg.Release, err = machine.ParseRelease(name); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getenv(vmEnv) != "" {
		cfg.Backend = machine.VM
	}
	kinds := possible(t, cfg.Backend)
	only := os.Getenv(stepsEnv)
	t.Logf("%s on %s, systemd %d, for %s. The same again: SEED=%d make test-chaos KINDS='%s'", cfg.Backend,
		cfg.Release, cfg.Release.SystemdVersion(), duration, seed, os.Getenv(kindsEnv))

	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute) // of the boot
	defer cancel()
	s, err := boot(ctx, cfg, t.TempDir(), comesUp("package", seed, int(duration/shortestRound), only, kinds))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the machine takes %d times as long as this host, and has as much more time for all", s.pace)
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			t.Log(s.Story(ctx, time.Time{}))
		}
		if err := s.Close(); err != nil {
			t.Errorf("the machine left something behind: %v", err)
		}
	})
	bounded, stop := context.WithTimeoutCause(t.Context(), duration+s.pace.times(lastRound),
		errors.New("a round does not end"))
	defer stop()
	r, err := start(bounded, s, kinds, t.Logf)
	for n := 0; err == nil && time.Since(began) < duration; n++ {
		steps := Only(only, Round(seed, n, kinds))
		if len(steps) > 0 {
			err = r.round(bounded, n, steps)
		}
		if last(only) >= 0 && n >= last(only) {
			break
		}
	}
	if r != nil {
		if stopped := r.stop(); stopped != nil {
			t.Error(stopped)
		}
		report(t, r, seed, time.Since(began))
	}
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}

// settings are the seed and the duration of the run.
func settings(t *testing.T) (uint64, time.Duration) {
	t.Helper()
	seed, duration := uint64(sliceSeed), sliceDuration
	var err error
	switch text := os.Getenv(seedEnv); text {
	case "":
	case "random":
		seed = rand.Uint64N(1_000_000)
	default:
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv(durationEnv); text != "" {
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	return seed, duration
}

// possible are those of the kinds of faults that this machine permits; the others are named.
func possible(t *testing.T, backend machine.Kind) []Kind {
	named, err := Named(os.Getenv(kindsEnv), Kinds())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []Kind
	for _, k := range named {
		if k.OnlyIn != "" && k.OnlyIn != backend {
			t.Logf("%s is not possible in a %s", k.Name, backend)
			continue
		}
		kinds = append(kinds, k)
	}
	if len(kinds) == 0 {
		t.Fatalf("a %s permits none of the kinds of faults that were named", backend)
	}
	return kinds
}

// shortestRound is what a round takes at least, on average.
const shortestRound = 8 * time.Second

// comesUp reports whether a run of so many rounds comes to a kind.
func comesUp(kind string, seed uint64, rounds int, only string, kinds []Kind) bool {
	for n := range rounds + 1 {
		if slices.ContainsFunc(Only(only, Round(seed, n, kinds)), func(s Step) bool { return s.Kind == kind }) {
			return true
		}
	}
	return false
}

// last is the last round that a list of steps names, -1 for an empty list.
func last(only string) int {
	n := -1
	for _, name := range strings.FieldsFunc(only, func(r rune) bool { return r == ' ' || r == ',' }) {
		round, _, _ := strings.Cut(name, ".")
		if i, err := strconv.Atoi(round); err == nil {
			n = max(n, i)
		}
	}
	return n
}

// report prints the figures of a run, and fails the test for what was found.
func report(t *testing.T, r *run, seed uint64, took time.Duration) {
	steps := 0
	var kinds strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.counts)) {
		steps += r.counts[name]
		fmt.Fprintf(&kinds, "  %-18s %d\n", name, r.counts[name])
	}
	t.Logf("seed %d, %s: %d steps in %d rounds, %d looks, %d uses of which %d failed, %d events, requests about "+
		"leases %v; %d violations\n%s", seed, took.Round(time.Second), steps, r.rounds, r.looks, r.echo.Uses,
		r.echo.Failed, r.echo.Events, r.leases, len(r.found), kinds.String())
	for _, v := range r.found {
		t.Errorf("seed %d: %s", seed, v)
	}
	for _, err := range r.failures {
		t.Errorf("seed %d: a fault could not be made: %v", seed, err)
	}
}
