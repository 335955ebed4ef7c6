package reconcile

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestSettled: of settled facts there is nothing to do at any time, and nothing to report; and one
// fact more is not settled.
func TestSettled(t *testing.T) {
	settled := 0
	everyFacts(func(f *Facts) {
		f.EndedItself = f.EndedItself && f.Unit == Exited // of no other phase
		if !f.Delayed {
			f.DelayedUntil = time.Time{}
		}
		if !f.Settled() {
			return
		}
		settled++
		for _, now := range []time.Time{{}, noon, noon.Add(1000 * time.Hour)} {
			if d := Plan(*f, now); d.Action != None || !d.At.IsZero() || d.Rule != "settled" {
				t.Errorf("%+v: %+v", *f, d)
			}
		}
		if v := Assess(*f); v.State != registry.StateReady || !v.Ready || v.Failure != nil {
			t.Errorf("%+v: %+v", *f, v)
		}
	})
	if settled == 0 || !replica().Settled() {
		t.Errorf("%d of all facts are settled", settled)
	}
	for name, change := range map[string]is{
		"unwanted": unwanted, "refused": refused, "parked": parked, "cut": cut, "revive": revive, "invalid": invalid,
		"another_spec": oldSpec, "draining": draining, "drained": drained, "staging": stage(Running),
		"preparing": prep(Pending), "an_action": op(Start), "a_retry": retryIn(time.Hour), "a_stop": stopFailed(0),
		"a_gpu": gpuUnusable, "a_fault": faulty, "short": short, "failing": failing,
		"starting": unit(Starting), "unprobed": func(f *Facts) { f.Probe = Unprobed },
		"delayed":  func(f *Facts) { f.Delayed = true },
		"a_crash":  func(f *Facts) { f.Crash = aFailure },
		"limits":   func(f *Facts) { f.UnitSpec.Limits = "l2" },
		"a_reload": func(f *Facts) { f.Rolling = true },
	} {
		if replica(change).Settled() {
			t.Errorf("%s is settled", name)
		}
	}
}
