package health_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/nvml/nvmltest"
)

// host is a Tracker and the GPUs that it follows, on a clock of its own.
type host struct {
	t       *testing.T
	tracker *health.Tracker
	start   time.Time
	now     time.Time
	facts   nvml.Snapshot
	changes []string // as "gpu0 healthy>lost"
}

func newHost(t *testing.T, gpus ...nvml.Device) *host {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &host{t: t, start: start, now: start, tracker: health.New(start)}
	h.facts = nvml.Snapshot{Session: "a", Devices: gpus}
	h.samples(1, time.Second)
	h.changes = nil
	return h
}

// samples takes n samples, each so much later.
func (h *host) samples(n int, every time.Duration) *host {
	for range n {
		h.now = h.now.Add(every)
		h.facts.Taken = h.now
		s := h.facts
		s.Devices = append([]nvml.Device(nil), h.facts.Devices...)
		h.took(h.tracker.Snapshot(&s, h.now))
	}
	return h
}

func (h *host) note(v classify.Verdict) health.Noted {
	n := h.tracker.Note(v, h.now)
	h.took(n.Changes)
	return n
}

func (h *host) kernel(line string) health.Noted {
	v, ok := classify.Kernel(line)
	if !ok {
		h.t.Fatalf("no verdict: %s", line)
	}
	return h.note(v)
}

func (h *host) xid(index, code int) health.Noted {
	return h.note(classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(index), Code: code}))
}

func (h *host) took(changes []health.Change) {
	for _, c := range changes {
		name := c.Device
		for i := range 8 {
			if c.Device == nvmltest.UUID(i) {
				name = fmt.Sprintf("gpu%d", i)
			}
		}
		h.changes = append(h.changes, fmt.Sprintf("%s %s>%s", name, c.From, c.To))
	}
}

func (h *host) is(index int, want health.Health) {
	h.t.Helper()
	h.shows(nvmltest.UUID(index), want)
}

func (h *host) shows(uuid string, want health.Health) {
	h.t.Helper()
	if s := h.tracker.State(uuid, h.now); s.Health != want {
		h.t.Fatalf("%s after %s: %s (%+v), want %s; changes %q", uuid, h.now.Sub(h.start), s.Health, s.Cause, want,
			h.changes)
	}
}

// untold makes the driver of GPU index one that has no field 230.
func (h *host) untold(index int) { h.facts.Devices[index].Recovery = "" }

// TestGPU are lives of GPUs, as sentences.
func TestGPU(t *testing.T) {
	for _, c := range []struct {
		name string
		life func(h *host)
	}{
		{"application_fault_leaves_the_gpu_alone", func(h *host) { h.xid(0, 31); h.is(0, health.OK) }},
		{"reset/clean_re-probe_where_the_driver_tells", func(h *host) {
			h.xid(0, 119)
			h.is(0, health.Reset)
			h.is(1, health.OK)
			h.samples(5, time.Second) // five samples span four seconds
			h.is(0, health.Reset)
			h.samples(1, time.Second)
			h.is(0, health.OK)
		}},
		{"reset/two_samples_are_no_re-probe", func(h *host) {
			h.xid(0, 119)
			h.samples(2, time.Hour)
			h.is(0, health.Reset)
		}},
		{"reset/driver_asks_for_it_until_it_is_done", func(h *host) {
			h.xid(0, 119)
			h.facts.Devices[0].Recovery = nvml.RecoveryReset
			h.samples(100, time.Second)
			h.is(0, health.Reset)
			h.facts.Devices[0].Recovery = nvml.RecoveryNone
			h.samples(6, time.Second)
			h.is(0, health.OK)
		}},
		{"reset/driver_does_not_tell_so_time_does_not_heal", func(h *host) {
			h.untold(0)
			h.xid(0, 119)
			h.samples(1000, time.Minute)
			h.is(0, health.Reset)
			h.facts.Session = "b"
			h.samples(6, time.Second)
			h.is(0, health.OK)
		}},
		{"reset/driver_does_not_tell_but_it_was_gone_for_the_reset", func(h *host) {
			h.untold(0)
			h.xid(0, 119)
			gpus := h.facts.Devices
			h.facts.Devices = gpus[1:]
			h.samples(1, time.Second)
			h.is(0, health.Lost)
			h.facts.Devices = gpus
			h.samples(6, time.Second)
			h.is(0, health.OK)
		}},
		{"reset/said_again_the_re-probe_starts_anew", func(h *host) {
			h.xid(0, 119)
			h.samples(5, time.Second)
			h.xid(0, 119)
			h.samples(5, time.Second)
			h.is(0, health.Reset)
			h.samples(1, time.Second)
			h.is(0, health.OK)
		}},
		{"reset/said_again_in_the_new_session", func(h *host) {
			h.untold(0)
			h.xid(0, 119)
			h.facts.Session = "b"
			h.samples(1, time.Second)
			h.xid(0, 119)
			h.samples(1000, time.Second)
			h.is(0, health.Reset)
		}},
		{"reset/sample_of_before_the_verdict_does_not_count", func(h *host) {
			h.now = h.now.Add(10 * time.Second)
			h.xid(0, 119)
			h.now = h.now.Add(-10 * time.Second)
			h.samples(9, time.Second)
			h.is(0, health.Reset)
		}},
		{"lost/sticky_then_back", func(h *host) {
			was := h.facts.Devices[0]
			h.facts.Devices[0] = nvmltest.Lost(was)
			h.samples(1, time.Second)
			h.is(0, health.Lost)
			h.is(1, health.OK)
			h.samples(100, time.Second)
			h.is(0, health.Lost)
			h.facts.Devices[0] = was
			h.samples(6, time.Second)
			h.is(0, health.OK)
		}},
		{"host/all_gpus_are_shut_and_none_is_not_believed", func(h *host) {
			h.xid(0, 79)
			h.is(0, health.Host)
			h.is(1, health.Host)
			h.samples(100, time.Second)
			h.is(1, health.Host)
		}},
		{"host/back_after_it_was_lost", func(h *host) {
			was := h.facts.Devices[0]
			h.xid(0, 79)
			h.facts.Devices[0] = nvmltest.Lost(was)
			h.samples(10, time.Second)
			h.is(1, health.Host)
			h.facts.Devices[0] = was
			h.samples(6, time.Second)
			h.is(0, health.OK)
			h.is(1, health.OK)
		}},
		{"host/new_session_with_the_gpu_still_lost", func(h *host) {
			h.xid(0, 79)
			h.facts.Devices[0] = nvmltest.Lost(h.facts.Devices[0])
			h.facts.Session = "b"
			h.samples(100, time.Second)
			h.is(1, health.Host)
		}},
		{"host/driver_asks_for_a_reboot_and_takes_it_back", func(h *host) {
			h.facts.Devices[1].Recovery = nvml.RecoveryReboot
			h.samples(1, time.Second)
			h.is(0, health.Host)
			h.facts.Devices[1].Recovery = nvml.RecoveryNone
			h.samples(6, time.Second)
			h.is(0, health.OK)
		}},
		{"degraded/clears_after_ten_quiet_minutes", func(h *host) {
			h.xid(0, 94)
			h.is(0, health.Degraded)
			h.samples(9, time.Minute)
			h.is(0, health.Degraded)
			h.samples(1, time.Minute)
			h.is(0, health.OK)
		}},
		{"degraded/does_not_hide_a_reset_nor_shorten_it", func(h *host) {
			h.untold(0)
			h.xid(0, 119)
			h.xid(0, 63)
			h.is(0, health.Reset)
			h.samples(30, time.Minute)
			h.is(0, health.Reset)
		}},
		{"degraded/row_remap_stays_until_the_reset", func(h *host) {
			h.facts.Devices[0].Remap = &nvml.Remap{Pending: true}
			h.samples(30, time.Minute)
			h.is(0, health.Degraded)
			h.facts.Devices[0].Remap = &nvml.Remap{Uncorrectable: 1}
			h.samples(6, time.Second)
			h.is(0, health.OK)
		}},
		{"stale/shows_by_age_and_changes_nothing", func(h *host) {
			h.xid(1, 119)
			h.tracker.Stale(h.now)
			h.is(0, health.OK)
			h.now = h.now.Add(29 * time.Second)
			h.is(0, health.OK)
			h.now = h.now.Add(time.Second)
			h.is(0, health.Unknown)
			h.is(1, health.Reset)
			h.samples(1, time.Second)
			h.is(0, health.OK)
			h.is(1, health.Reset)
		}},
		{"stale/breaks_a_re-probe", func(h *host) {
			h.xid(0, 119)
			h.samples(5, time.Second)
			h.tracker.Stale(h.now)
			h.samples(5, time.Second)
			h.is(0, health.Reset)
		}},
		{"driver_gone/holds_nothing_against_gpus", func(h *host) {
			gpus := h.facts.Devices
			h.facts.Devices, h.facts.Driver.Problem = nil, &nvml.Problem{Kind: nvml.ProblemMismatch, Code: 18}
			h.samples(40, time.Second)
			h.is(0, health.Unknown)
			h.facts.Devices, h.facts.Driver.Problem = gpus, nil
			h.samples(1, time.Second)
			h.is(0, health.OK)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.life(newHost(t, nvmltest.GPU(0), nvmltest.GPU(1))) })
	}
}

// TestPartitions: a fault in one MIG instance is not its neighbour's.
func TestPartitions(t *testing.T) {
	h := newHost(t, nvmltest.MIG(0, 2))
	first, second := nvmltest.PartitionUUID(0, 0), nvmltest.PartitionUUID(0, 1)
	instance := func(xid, gi int) {
		h.note(classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(0), Code: xid, GI: &gi}))
	}
	instance(94, 7)
	h.shows(first, health.Degraded)
	h.shows(second, health.OK)
	h.is(0, health.Degraded)

	instance(95, 7)
	h.shows(first, health.Reset)
	h.shows(second, health.Reset)
	h.samples(6, time.Second)
	h.shows(first, health.Degraded)
	h.shows(second, health.OK)
	h.shows("MIG-that-is-not-there", health.Unknown)

	h.facts.Devices[0] = nvmltest.MIG(0, 1) // the second one is destroyed
	h.samples(1, time.Second)
	h.shows(second, health.Unknown)
}

// TestDeadFromTheStart: a GPU that never had a UUID is shown as lost, harms no one, and is a new
// GPU once it has one.
func TestDeadFromTheStart(t *testing.T) {
	dead := nvml.Device{Index: 1, Problem: &nvml.Problem{Kind: nvml.ProblemLost, Code: 15,
		Text: "the GPU has fallen off the bus"}}
	h := newHost(t, nvmltest.GPU(0), dead, nvml.Device{Index: 2,
		Problem: &nvml.Problem{Kind: nvml.ProblemOther, Text: "it failed"}})
	h.is(0, health.OK)
	h.shows("", health.Lost)
	since := h.now
	h.samples(3, time.Second)
	if s := h.tracker.State("", h.now); !s.Since.Equal(since) || s.Cause == nil || s.Cause.Kind != "lost" {
		t.Errorf("State = %+v, want lost since %s", s, since)
	}
	if all := h.tracker.All(h.now); len(all) != 1 || len(h.changes) != 0 {
		t.Errorf("All = %+v, changes %q", all, h.changes)
	}
	h.facts.Devices[1], h.facts.Devices[2] = nvmltest.GPU(1), nvmltest.GPU(2)
	h.samples(1, time.Second)
	h.is(1, health.OK)
	h.shows("", health.Unknown)
}

// TestCountedOnce: the driver reports one fault as an event and in the kernel's log; a second fault
// is counted again.
func TestCountedOnce(t *testing.T) {
	const line = "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
	h := newHost(t, nvmltest.GPU(0), nvmltest.GPU(1))
	var fresh []bool
	say := func(n health.Noted) { fresh = append(fresh, n.Fresh) }
	say(h.xid(0, 79))
	n := h.kernel(line)
	if n.Verdict.Device != nvmltest.UUID(0) {
		t.Errorf("the kernel's line is held against %q", n.Verdict.Device)
	}
	say(n)
	say(h.kernel("NVRM: GPU 0000:65:00.0: GPU has fallen off the bus."))
	say(h.xid(1, 79))
	h.now = h.now.Add(time.Minute)
	say(h.xid(0, 79))
	say(h.xid(0, 79))
	if want := "[true false false true true true]"; fmt.Sprint(fresh) != want {
		t.Errorf("fresh = %v, want %s", fresh, want)
	}
}

// TestChanges: each change is reported once, with its cause.
func TestChanges(t *testing.T) {
	h := newHost(t, nvmltest.GPU(0), nvmltest.GPU(1))
	h.xid(0, 94)
	h.xid(0, 119)
	h.xid(0, 119)
	h.samples(6, time.Second)
	h.xid(1, 79)
	want := `["gpu0 healthy>degraded" "gpu0 degraded>needs-reset" "gpu0 needs-reset>degraded" ` +
		`"gpu0 degraded>host" "gpu1 healthy>host"]`
	if got := fmt.Sprintf("%q", h.changes); got != want {
		t.Errorf("changes = %s\n   want   %s", got, want)
	}
	if s := h.tracker.State(nvmltest.UUID(0), h.now); s.Cause == nil || s.Cause.Xid != 79 || !s.Since.Equal(h.now) {
		t.Errorf("State = %+v", s)
	}
}
