package health_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/nvml/nvmltest"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// Lines of the kernel's log about the GPU 0, each of a class of its own.
const (
	saysHost   = "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
	saysOffBus = "NVRM: GPU 0000:65:00.0: GPU has fallen off the bus."
	saysReset  = "NVRM: Xid (PCI:0000:65:00): 119, pid=1, name=x, Timeout waiting for RPC from GSP0!"
	saysInit   = "NVRM: GPU 0000:65:00.0: RmInitAdapter failed! (0x26:0x56:1474)"
	saysReboot = "NVRM: Xid (PCI:0000:65:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot " +
		"Required)"
	saysDegraded = "NVRM: Xid (PCI:0000:65:00): 63, Row remapping pending"
	saysSwitch   = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Fatal, Link 28 sourcetrack timeout error (First)"
)

var everyLine = []string{saysHost, saysOffBus, saysReset, saysInit, saysReboot, saysDegraded, saysSwitch}

// answers are the answers of the hints that were resolved since the last call.
func (h *host) answers() string {
	var out []string
	for _, r := range h.tracker.Resolved() {
		out = append(out, fmt.Sprintf("%s*%d", r.Answer, r.Lines))
	}
	return fmt.Sprint(out)
}

func (h *host) answered(want string) {
	h.t.Helper()
	if got := h.answers(); got != want {
		h.t.Errorf("NVML answered %s, want %s", got, want)
	}
}

// silence lets time pass without a sample, with the owner's checks.
func (h *host) silence(d time.Duration) *host {
	for range d / time.Second {
		h.now = h.now.Add(time.Second)
		h.took(h.tracker.Expire(h.now))
	}
	return h
}

// TestTextAlone: what a line of the kernel's log does to a GPU, by what NVML answers.
func TestTextAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		life func(h *host)
	}{
		{"nvml_finds_it_well/nothing_happens", func(h *host) {
			for _, line := range everyLine {
				h.kernel(line)
			}
			for range 100 {
				h.samples(1, time.Second)
				h.took(h.tracker.Expire(h.now))
				h.is(0, health.OK)
				h.is(1, health.OK)
			}
			h.answered("[denied*1 denied*5]")
			if len(h.changes) != 0 {
				h.t.Errorf("changes %q", h.changes)
			}
		}},
		{"nvml_finds_it_well/the_driver_gives_no_advice", func(h *host) {
			h.untold(0)
			h.kernel(saysReset)
			h.samples(5, time.Second)
			h.answered("[]")
			h.samples(1, time.Second)
			h.is(0, health.OK)
			h.answered("[denied*1]")
		}},
		{"nvml_finds_it_well/said_a_thousand_times", func(h *host) {
			for range 1000 {
				h.kernel(saysHost)
			}
			h.samples(6, time.Second)
			h.answered("[denied*1000]")
		}},
		{"nvml_finds_it_well/in_a_sample_that_was_asked_for", func(h *host) {
			h.kernel(saysHost)
			for range 6 {
				h.now = h.now.Add(time.Second)
				s := h.facts
				s.Taken = h.now
				h.took(h.tracker.Asked(&s, h.now))
			}
			h.answered("[denied*1]")
			h.is(0, health.OK)
		}},
		{"an_older_sample_answers_nothing", func(h *host) {
			h.kernel(saysReset)
			for range 9 {
				s := h.facts // sent again
				h.took(h.tracker.Snapshot(&s, h.now))
			}
			h.silence(9*time.Second).is(0, health.OK)
			h.silence(time.Second).is(0, health.Reset)
			h.answered("[unanswered*1]")
		}},
		{"nvml_does_not_answer/the_line_counts_for_that_gpu", func(h *host) {
			h.kernel(saysHost)
			h.silence(9*time.Second).is(0, health.OK)
			h.silence(time.Second).is(0, health.Reset)
			h.is(1, health.OK)
			h.answered("[unanswered*1]")
			h.silence(time.Hour).is(0, health.Reset)
		}},
		{"nvml_does_not_answer/until_it_does_again", func(h *host) {
			h.untold(0)
			h.kernel(saysReset)
			h.silence(10*time.Second).is(0, health.Reset)
			h.samples(5, time.Second).is(0, health.Reset)
			h.samples(1, time.Second).is(0, health.OK)
		}},
		{"nvml_does_not_answer/after_it_had_begun_to", func(h *host) {
			h.kernel(saysReset)
			h.samples(2, time.Second)
			h.silence(10*time.Second).is(0, health.Reset)
		}},
		{"nvml_does_not_answer/a_degraded_gpu_stays_in_use", func(h *host) {
			h.kernel(saysDegraded)
			h.silence(10*time.Second).is(0, health.Degraded)
		}},
		{"nvml_does_not_answer/a_switch_is_no_gpu", func(h *host) {
			h.kernel(saysSwitch)
			h.silence(time.Minute).is(0, health.OK)
			h.answered("[]")
		}},
		{"the_driver_is_gone/the_line_counts_for_that_gpu", func(h *host) {
			h.kernel(saysReset)
			h.facts.Driver.Problem = &nvml.Problem{Kind: nvml.ProblemMismatch, Code: 18}
			h.samples(9, time.Second)
			h.took(h.tracker.Expire(h.now))
			h.is(0, health.OK)
			h.samples(1, time.Second)
			h.took(h.tracker.Expire(h.now))
			h.is(0, health.Reset)
			h.is(1, health.OK)
		}},
		{"nvml_reports_a_fault/lost", func(h *host) {
			h.kernel(saysHost)
			h.facts.Devices[0] = nvmltest.Lost(h.facts.Devices[0])
			h.samples(1, time.Second).is(0, health.Lost)
			h.is(1, health.OK)
			h.answered("[confirmed*1]")
		}},
		{"nvml_reports_a_fault/it_cannot_be_read", func(h *host) {
			h.kernel(saysReset)
			h.facts.Devices[0].Problem = &nvml.Problem{Kind: nvml.ProblemOther, Code: 999, Text: "unknown error"}
			h.samples(1, time.Second).is(0, health.Reset)
			h.is(1, health.OK)
			h.answered("[confirmed*1]")
		}},
		{"nvml_reports_a_fault/it_lists_the_gpu_no_longer", func(h *host) {
			h.kernel(saysReset)
			h.facts.Devices = h.facts.Devices[1:]
			h.samples(1, time.Second).is(0, health.Lost)
			h.answered("[confirmed*1]")
		}},
		{"nvml_reports_a_fault/its_advice_decides", func(h *host) {
			h.kernel(saysReboot)
			h.facts.Devices[0].Recovery = nvml.RecoveryDrainP2P
			h.samples(10, time.Second).is(0, health.Degraded)
			h.is(1, health.OK)
			h.answered("[confirmed*1]")
		}},
		{"nvml_reports_a_fault/by_an_event_before", func(h *host) {
			h.xid(0, 119)
			if n := h.kernel(saysReset); n.Asks || n.Fresh {
				h.t.Errorf("asks for what NVML has reported: %+v", n)
			}
			h.samples(6, time.Second).is(0, health.OK)
			h.answered("[]")
		}},
		{"nvml_reports_a_fault/by_an_event_later", func(h *host) {
			if n := h.kernel(saysReset); !n.Asks || n.Fresh {
				h.t.Errorf("%+v", n)
			}
			if n := h.xid(0, 119); !n.Fresh {
				h.t.Error("the event is not counted")
			}
			h.answered("[confirmed*1]")
			h.is(0, health.Reset)
		}},
		{"lines_hold_no_fault_that_is_over", func(h *host) {
			h.xid(0, 119)
			for range 6 {
				h.samples(1, time.Second)
				h.kernel(saysHost)
			}
			h.is(0, health.OK)
		}},
		{"a_gap_in_the_facts_breaks_the_re-probe", func(h *host) {
			h.kernel(saysReset)
			h.samples(5, time.Second)
			h.tracker.Stale(h.now)
			h.samples(5, time.Second)
			h.answered("[]")
			h.samples(1, time.Second)
			h.answered("[denied*1]")
		}},
		{"a_gpu_that_nvml_never_listed", func(h *host) {
			for range 1000 {
				h.kernel("NVRM: Xid (PCI:0000:99:00): 79, pid=1, name=x, GPU has fallen off the bus.")
			}
			h.silence(10 * time.Second)
			if got := h.tracker.Resolved(); len(got) != 64 || got[0].Answer != health.Unlisted || h.tracker.Hinted() {
				h.t.Errorf("%d resolved, the first %+v", len(got), got[0])
			}
			h.is(0, health.OK)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.life(newHost(t, nvmltest.GPU(0), nvmltest.GPU(1))) })
	}
}

// TestTextBeforeTheFirstSample: the kernel's log names a GPU before the helper does.
func TestTextBeforeTheFirstSample(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tracker := health.New(start)
	v, _ := classify.Kernel(saysReset)
	if n := tracker.Note(v, start); len(n.Changes) != 0 || !n.Asks {
		t.Errorf("Note = %+v", n)
	}
	broken := nvmltest.GPU(0)
	broken.Problem = &nvml.Problem{Kind: nvml.ProblemOther, Code: 999, Text: "unknown error"}
	s := &nvml.Snapshot{Taken: start.Add(time.Second), Session: "a", Devices: []nvml.Device{broken, nvmltest.GPU(1)}}
	tracker.Snapshot(s, s.Taken)
	all := tracker.All(s.Taken)
	if all[nvmltest.UUID(1)].Health != health.OK || all[nvmltest.UUID(0)].Health != health.Reset ||
		all[nvmltest.UUID(0)].Cause.Xid != 119 {
		t.Errorf("All = %+v", all)
	}
}

func TestAnswers(t *testing.T) {
	want := []health.Answer{health.Confirmed, health.Denied, health.Unanswered, health.Unlisted}
	if !slices.Equal(health.Answers(), want) {
		t.Errorf("Answers() = %v", health.Answers())
	}
}

// FuzzTextAlone runs two trackers side by side. Both get the same events and samples, and one also
// gets lines of the kernel's log. While NVML answers for the GPUs, the two never differ.
func FuzzTextAlone(f *testing.F) {
	f.Add([]byte{0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85})
	f.Add([]byte{0x00, 0x41, 0x80, 0x01, 0x80, 0xc1, 0x80, 0x02, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80})
	f.Add([]byte{0x42, 0x03, 0x80, 0xc0, 0x04, 0x80, 0xd0, 0x05, 0x80, 0x80, 0x06, 0x80, 0x80, 0x80, 0x80, 0x80})
	f.Fuzz(mutate.Many(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		attacked, alone := health.New(now), health.New(now)
		gpus := []nvml.Device{nvmltest.GPU(0), nvmltest.GPU(1)}
		sample := func() {
			s := &nvml.Snapshot{Taken: now, Session: "a", Devices: slices.Clone(gpus)}
			attacked.Snapshot(s, now)
			alone.Snapshot(s, now)
		}
		sample()
		for _, b := range script {
			switch low := int(b & 15); b >> 6 {
			case 0:
				v, ok := classify.Kernel(everyLine[low%len(everyLine)])
				if !ok {
					t.Fatal("no verdict")
				}
				attacked.Note(v, now)
			case 1:
				xids := []int{119, 95, 79, 94, 31, 48, 63, 14}
				v := classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(low & 1), Code: xids[low>>1]})
				attacked.Note(v, now)
				alone.Note(v, now)
			case 2:
				now = now.Add(time.Duration(low+1) * 500 * time.Millisecond) // within patience
				sample()
				attacked.Expire(now)
			case 3:
				gpus[low&1].Recovery = []nvml.Recovery{"", nvml.RecoveryNone, nvml.RecoveryReset, nvml.RecoveryReboot,
					nvml.RecoveryDrainP2P, nvml.RecoveryDrainAndReset, nvml.RecoveryNone, "new"}[low>>1]
			}
			for i := range gpus {
				a, b := attacked.State(nvmltest.UUID(i), now), alone.State(nvmltest.UUID(i), now)
				if a.Health != b.Health || !a.Since.Equal(b.Since) {
					t.Fatalf("GPU %d is %s since %s with lines, %s since %s without", i, a.Health, a.Since, b.Health,
						b.Since)
				}
			}
		}
	}))
}
