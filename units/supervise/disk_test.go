package supervise

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/disk"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// counts delivers what pool a has on the disk.
func (m *manager) counts(used disk.Usage, full bool) {
	m.s.DiskCounted(disk.Report{Of: map[string]disk.Usage{"a.r0": used}, Space: disk.Space{Bytes: 1 << 40}, Full: full})
	synctest.Wait()
}

// TestDisk: an engine with more on the disk than it may have goes on, and this is reported; one
// with far more is stopped at once, and started when its files are gone.
func TestDisk(t *testing.T) {
	const mib = 1 << 20
	bounded := llama("a", func(p *pool.Pool) { p.StateMaxBytes = 100 * mib })
	begin := func(t *testing.T, w *world) *manager {
		m := w.manage(t, pools(bounded))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
		return m
	}
	scenario(t, "within", func(t *testing.T, w *world) {
		m := begin(t, w)
		m.counts(disk.Usage{Bytes: 100 * mib, Files: 3}, true)
		m.wantState("a", registry.StateReady, true)
		if p := m.pool("a"); p.LastError != nil || p.Replicas[0].DiskBytes != 100*mib || m.s.DiskUrgent() {
			t.Errorf("error %v, %d bytes, urgent %t", p.LastError, p.Replicas[0].DiskBytes, m.s.DiskUrgent())
		}
	})
	scenario(t, "over_goes_on", func(t *testing.T, w *world) {
		m := begin(t, w)
		m.counts(disk.Usage{Bytes: 200*mib + 1, Files: 3}, false)
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeStateTooLarge)
		if f := m.pool("a").LastError; !strings.Contains(f.Message, "hold 200 MiB; [limits] state_max is 100 MiB") ||
			!strings.Contains(f.Hint, "/var/lib/private/pool-engine/a.r0") || !m.s.DiskUrgent() {
			t.Errorf("%s, hint %s, urgent %t", f.Message, f.Hint, m.s.DiskUrgent())
		}
		if n := w.called("stop"); n != 0 {
			t.Errorf("%d stops: %q", n, w.calls)
		}
		m.counts(disk.Usage{Bytes: 90 * mib, Files: 3}, false)
		if f := m.pool("a").LastError; f != nil || m.s.DiskUrgent() {
			t.Errorf("after its files were deleted: %v", f)
		}
	})
	for name, c := range map[string]struct {
		used disk.Usage
		full bool
	}{
		"far_over":                       {disk.Usage{Bytes: 202 * mib, Files: 3}, false},
		"over_on_a_full_disk":            {disk.Usage{Bytes: 101 * mib, Files: 3}, true},
		"countless_files_on_a_full_disk": {disk.Usage{Bytes: mib, Files: 200_001, More: true}, true},
	} {
		scenario(t, name+"_is_stopped_until_it_is_within", func(t *testing.T, w *world) {
			m := begin(t, w)
			m.counts(c.used, c.full)
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateWaiting, false)
			m.wantCode("a", registry.CodeStateTooLarge)
			m.counts(disk.Usage{Bytes: 101 * mib, Files: 3}, false) // not enough
			m.wantState("a", registry.StateWaiting, false)
			m.counts(disk.Usage{Bytes: 100 * mib, Files: 3}, false)
			w.passGate(unitOf("a"))
			time.Sleep(time.Second)
			m.wantState("a", registry.StateReady, true)
			if f := m.pool("a").LastError; f != nil {
				t.Errorf("after its files were deleted: %v", f)
			}
		})
	}
	scenario(t, "the_next_manager_does_not_start_it_before_it_has_counted", func(t *testing.T, w *world) {
		n := make(notes)
		m := w.manage(t, pools(bounded), withNotes(n))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.counts(disk.Usage{Bytes: 300 * mib, Files: 3}, false)
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateWaiting, false)
		m.kill()
		starts := w.called("start")
		m = w.manage(t, pools(bounded), withNotes(n))
		time.Sleep(10 * time.Minute)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeStateTooLarge)
		if n := w.called("start"); n != starts {
			t.Errorf("%d starts before anything was counted", n-starts)
		}
		m.counts(disk.Usage{Bytes: 90 * mib, Files: 3}, false)
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
		m.kill()
		m = w.manage(t, pools(bounded), withNotes(n))
		m.wantState("a", registry.StateReady, true) // the note is gone
	})
	scenario(t, "a_larger_bound_counts_at_once", func(t *testing.T, w *world) {
		m := begin(t, w)
		m.counts(disk.Usage{Bytes: 300 * mib, Files: 3}, false)
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateWaiting, false)
		larger := bounded
		larger.StateMaxBytes = disk.Off
		m.apply(pools(larger))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "the_default_is_a_part_of_the_file_system", func(t *testing.T, w *world) {
		bounded := llama("a")
		m := w.manage(t, pools(bounded))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.counts(disk.Usage{Bytes: 33 << 30, Files: 3}, false)
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeStateTooLarge)
	})
}

// TestHeldOnDisk: what was not counted to its end is named by the bound that ended it.
func TestHeldOnDisk(t *testing.T) {
	for want, u := range map[string]disk.Usage{
		"200 MiB":                {Bytes: 200 << 20, Files: 3},
		"more than 200000 files": {Bytes: 1, Files: disk.MostFiles + 1, More: true},
		"more than 64 directories within one another": {Bytes: 1, Files: 77, More: true},
	} {
		if got := heldOnDisk(u); got != want {
			t.Errorf("%+v: %q, want %q", u, got, want)
		}
	}
}
