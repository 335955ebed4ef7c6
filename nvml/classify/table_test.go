package classify

import (
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// TestXidTable: each Xid stands in one row, the rows that act say what to do, and the codes on
// which NVIDIA's catalogue is clear are where it puts them.
func TestXidTable(t *testing.T) {
	rowOf := map[int]int{}
	for i, r := range xidRows {
		if !slices.IsSorted(r.codes) || len(r.codes) == 0 || slices.Contains(r.codes, 0) {
			t.Errorf("row %d: codes %v", i, r.codes)
		}
		for _, code := range r.codes {
			if _, twice := rowOf[code]; twice {
				t.Errorf("Xid %d stands in two rows", code)
			}
			rowOf[code] = i
		}
		if r.class != ClassLog && (r.code == "" || r.hint == "" || r.action == ActionNone) {
			t.Errorf("row %v acts, without code, hint or action", r.codes)
		}
	}
}

// TestXidCatalogue: the buckets of NVIDIA's catalogue ("Immediate Action", as of driver R575), and
// what is made of each. The exceptions are those on which the public catalogues disagree.
func TestXidCatalogue(t *testing.T) {
	exceptions := map[int]Class{63: ClassDegraded, 94: ClassDegraded, 109: ClassDegraded}
	for _, bucket := range []struct {
		name  string
		codes string
		class Class
	}{
		{"RESTART_APP", "8 11 13 25 31-32 39-41 60 68-72 75-77 80 82-86 88-89 94 96-105 126-135 139", ClassApplication},
		{"IGNORE", "14 37-38 43-44 63 66-67 92-93 106-108 121 137 141 152-153 157 160-161", ClassLog},
		{"RESET_GPU", "46 62 64 95 109-110 119-120 136 140 143 155-156 158", ClassReset},
		{"RESTART_BM", "79", ClassHost},
		{"WORKFLOW_XID_45", "45", ClassLog},
		{"WORKFLOW_XID_48", "48", ClassReset},
		{"WORKFLOW_NVLINK", "74 144-150", ClassDegraded},
		{"CHECK_MECHANICALS", "54", ClassDegraded},
		{"UPDATE_SWFW", "78", ClassDegraded},
		{"XID_154", "154", ClassDegraded},
		{"with_Xid_48", "171-172", ClassLog},
		{"none_or_unused", "0-7 9-10 61 81 142 151 159 162-170 173 999", ClassDegraded},
	} {
		t.Run(bucket.name, func(t *testing.T) {
			for _, code := range seq(bucket.codes) {
				want := bucket.class
				if c, ok := exceptions[code]; ok {
					want = c
				}
				v := Event(nvml.Event{Kind: nvml.EventXid, Device: "GPU-1", Code: code})
				if v.Class != want || v.Xid != code || v.Device != "GPU-1" || v.Kind != "xid" {
					t.Errorf("Xid %d = %+v, want class %s", code, v, want)
				}
			}
		})
	}
}

func TestRanges(t *testing.T) {
	for _, s := range []string{"", "8", "8 11 13", "31-32 39-41 60", "1-3 5"} {
		if got := ranges(seq(s)); got != s {
			t.Errorf("ranges(seq(%q)) = %q", s, got)
		}
	}
}

// TestRows: kinds are few, as the label of a metric must be, and each source's texts are classified
// apart.
func TestRows(t *testing.T) {
	kinds := map[string]bool{}
	acting := 0
	for _, r := range rows() {
		if r.class.Rank() >= ClassReset.Rank() && !kinds[r.kind] {
			acting++
		}
		kinds[r.kind] = true
		if r.class != ClassLog && (r.code == "" || r.hint == "") {
			t.Errorf("%s acts, without code or hint", r.kind)
		}
	}
	// What driver_reset_events_total counts, with "xid" itself: the metrics contract allows 16
	// values of a label like this.
	if acting+1 > 16 {
		t.Errorf("%d kinds of fault that ask for a reset", acting+1)
	}
}

func TestEvent(t *testing.T) {
	gi, ci := 7, 0
	for _, c := range []struct {
		name  string
		event nvml.Event
		class Class
		scope Scope
		kind  string
	}{
		{"double_bit", nvml.Event{Kind: nvml.EventECCDouble}, ClassReset, ScopeGPU, "ecc-double-bit"},
		{"unavailable", nvml.Event{Kind: nvml.EventUnavailable}, ClassReset, ScopeGPU, "gpu-unavailable"},
		{"recovery/none", nvml.Event{Kind: nvml.EventRecovery, Code: 0}, ClassLog, ScopeGPU, "recovery-none"},
		{"recovery/reset", nvml.Event{Kind: nvml.EventRecovery, Code: 1}, ClassReset, ScopeGPU, "recovery-reset"},
		{"recovery/reboot", nvml.Event{Kind: nvml.EventRecovery, Code: 2}, ClassHost, ScopeHost, "recovery-reboot"},
		{"recovery/drain_p2p", nvml.Event{Kind: nvml.EventRecovery, Code: 3}, ClassDegraded, ScopeGPU, "recovery-drain-p2p"},
		{"recovery/drain_and_reset", nvml.Event{Kind: nvml.EventRecovery, Code: 4}, ClassReset, ScopeGPU, "recovery-drain-reset"},
		{"recovery/reset_of_the_bus", nvml.Event{Kind: nvml.EventRecovery, Code: 6}, ClassReset, ScopeGPU, "recovery-reset"},
		{"recovery/unheard_of", nvml.Event{Kind: nvml.EventRecovery, Code: 8}, ClassDegraded, ScopeGPU, "unknown"},
		{"recovery/negative", nvml.Event{Kind: nvml.EventRecovery, Code: -1}, ClassDegraded, ScopeGPU, "unknown"},
		{"missed", nvml.Event{Kind: nvml.EventMissed}, ClassLog, ScopeHost, "missed"},
		{"unknown_kind", nvml.Event{Kind: "new"}, ClassDegraded, ScopeGPU, "unknown"},
		{"mig/contained", nvml.Event{Kind: nvml.EventXid, Code: 94, GI: &gi, CI: &ci}, ClassDegraded, ScopePartition, "xid"},
		{"mig/application", nvml.Event{Kind: nvml.EventXid, Code: 31, GI: &gi, CI: &ci}, ClassApplication, ScopeProcess, "xid"},
		{"mig/uncontained", nvml.Event{Kind: nvml.EventXid, Code: 95, GI: &gi, CI: &ci}, ClassReset, ScopeGPU, "xid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Event(c.event)
			if v.Class != c.class || v.Scope != c.scope || v.Kind != c.kind || v.Source != SourceEvent || v.Text == "" {
				t.Errorf("Event = %+v, want %s %s %s", v, c.class, c.scope, c.kind)
			}
			if v.GI != c.event.GI || v.CI != c.event.CI {
				t.Errorf("the instance was lost: %+v", v)
			}
		})
	}
}

func TestDevice(t *testing.T) {
	problem := func(k nvml.ProblemKind) *nvml.Problem { return &nvml.Problem{Kind: k, Text: "it failed"} }
	for _, c := range []struct {
		name   string
		device nvml.Device
		kind   string
		class  Class
	}{
		{"healthy", nvml.Device{Recovery: nvml.RecoveryNone, Remap: &nvml.Remap{Corrected: 3}}, "", ""},
		{"tells_nothing", nvml.Device{}, "", ""},
		{"lost", nvml.Device{Problem: problem(nvml.ProblemLost)}, "lost", ClassReset},
		{"lost_and_the_driver_wants_a_reboot", nvml.Device{Problem: problem(nvml.ProblemLost), Recovery: nvml.RecoveryReboot}, "recovery-reboot", ClassHost},
		{"reset_required", nvml.Device{Problem: problem(nvml.ProblemReset)}, "reset-required", ClassReset},
		{"recovery_reset", nvml.Device{Recovery: nvml.RecoveryReset}, "recovery-reset", ClassReset},
		{"drain_and_reset", nvml.Device{Recovery: nvml.RecoveryDrainAndReset}, "recovery-drain-reset", ClassReset},
		{"drain_p2p", nvml.Device{Recovery: nvml.RecoveryDrainP2P}, "recovery-drain-p2p", ClassDegraded},
		{"unknown_action", nvml.Device{Recovery: "wait"}, "recovery-other", ClassDegraded},
		{"other_error", nvml.Device{Problem: problem(nvml.ProblemOther)}, "no-answer", ClassDegraded},
		{"row_remap_pending", nvml.Device{Remap: &nvml.Remap{Pending: true}}, "row-remap-pending", ClassDegraded},
		{"row_remap_failed", nvml.Device{Remap: &nvml.Remap{Pending: true, Failed: true}}, "row-remap-failed", ClassDegraded},
		{"the_worst_counts", nvml.Device{Remap: &nvml.Remap{Failed: true}, Recovery: nvml.RecoveryReset}, "recovery-reset", ClassReset},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.device.UUID = "GPU-1"
			v, ok := Device(c.device)
			if ok != (c.kind != "") || v.Kind != c.kind || v.Class != c.class {
				t.Errorf("Device = %+v %t, want %s %s", v, ok, c.class, c.kind)
			}
			if ok && (v.Device != "GPU-1" || v.Source != SourceDevice) {
				t.Errorf("Device = %+v", v)
			}
		})
	}
}
