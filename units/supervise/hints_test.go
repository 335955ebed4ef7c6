package supervise

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// The worst that the kernel's log can report of GPU 0, and a process of unit a.
const (
	lostGPU  = "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
	badReset = "NVRM: Xid (PCI:0000:65:00): 119, pid=1, name=x, Timeout waiting for RPC from GSP0!"
)

// answerCounts are what metrics would count of NVML's answers.
type answerCounts struct {
	noObserver
	answers map[string]int
	resets  int
}

func (c *answerCounts) LogReport(answer string)    { c.answers[answer]++ }
func (c *answerCounts) DriverReset(string, string) { c.resets++ }

// TestKernelLog: a line of the kernel's log makes the manager ask NVML, whose answer counts.
func TestKernelLog(t *testing.T) {
	scenario(t, "nvml_finds_the_gpu_well_so_nothing_happens", func(t *testing.T, w *world) {
		h, counts := twoGPUs(), &answerCounts{answers: map[string]int{}}
		m := w.manage(t, pools(onGPU("a", "0")), withGPUs(h), func(o *Options) { o.Observer = counts })
		h.tell()
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		for range 100 {
			h.kernelSays(lostGPU)
		}
		if h.times() == 0 {
			t.Error("NVML was not asked at once")
		}
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		if d := m.reg.Snapshot().Devices.Devices; d[0].Health != registry.HealthOK || d[1].Health != registry.HealthOK {
			t.Errorf("devices %+v", d)
		}
		if counts.answers[string(health.Denied)] != 1 || len(counts.answers) != 1 || counts.resets != 0 {
			t.Errorf("counted %v, %d resets", counts.answers, counts.resets)
		}
		if asked := h.times(); asked > 6 || w.called("stop")+w.called("kill") > 0 {
			t.Errorf("asked %d times; calls %v", asked, w.calls)
		}
		h.kernelSays(lostGPU)
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		if counts.answers[string(health.Denied)] != 2 {
			t.Errorf("a second report is not asked about: %v", counts.answers)
		}
	})
	scenario(t, "nvml_hangs_so_the_line_counts_for_its_gpu", func(t *testing.T, w *world) {
		h, counts := twoGPUs(), &answerCounts{answers: map[string]int{}}
		m := w.manage(t, pools(onGPU("a", "0"), onGPU("b", "1")), withGPUs(h), func(o *Options) { o.Observer = counts })
		h.tell()
		w.passGate(unitOf("a"))
		w.passGate(unitOf("b"))
		m.wantState("b", registry.StateReady, true)
		h.hang(true)
		h.kernelSays(lostGPU)
		time.Sleep(9 * time.Second)
		m.wantState("a", registry.StateReady, true)
		time.Sleep(10 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
		m.wantState("b", registry.StateReady, true)
		if f := m.pool("a").LastError; !strings.Contains(f.Message, "NVML does not answer") {
			t.Errorf("last error %s", f.Message)
		}
		if counts.answers[string(health.Unanswered)] != 1 || counts.resets != 1 {
			t.Errorf("counted %v, %d resets", counts.answers, counts.resets)
		}
		h.hang(false)
		h.tellFor(10 * time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "nvml_confirms_it", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.mu.Lock()
		h.now.Devices[0].Problem = &nvml.Problem{Kind: nvml.ProblemOther, Code: 999, Text: "unknown error"}
		h.mu.Unlock()
		h.kernelSays(badReset)
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
	})
	scenario(t, "a_line_that_names_an_engines_process_needs_an_event", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.tell(func(s *nvml.Snapshot) {
			used := uint64(gib)
			s.Devices[0].Processes = []nvml.Process{{PID: 1001, Unit: unitOf("a"), Used: &used}}
		})
		const line = "NVRM: Xid (PCI:0000:65:00): 31, pid=1001, name=llama-server, Ch 00000008"
		h.kernelSays(line)
		h.kernelSays(strings.Replace(line, "65:00", "66:00", 1)) // on a GPU that it does not use
		h.event(nvml.Event{Kind: nvml.EventXid, Device: gpu(1), Code: 31})
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		h.kernelSays(line)
		h.event(nvml.Event{Kind: nvml.EventXid, Device: gpu(0), Code: 31})
		time.Sleep(faultGrace)
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeCUDAError)
	})
}

// TestForgedLogEntries: entries that only look like the kernel's or an engine's are not acted on,
// even where NVML does not answer.
func TestForgedLogEntries(t *testing.T) {
	const broken = "CUDA error: an illegal memory access was encountered"
	for name, entry := range map[string][]string{
		"a_program_that_writes_to_kmsg": {lostGPU, "_TRANSPORT", "kernel", "SYSLOG_FACILITY", "1", "SYSLOG_IDENTIFIER", "kernel"},
		"kmsg_without_a_facility":       {lostGPU, "_TRANSPORT", "kernel"},
		"logger":                        {lostGPU, "_TRANSPORT", "syslog", "SYSLOG_FACILITY", "0", "SYSLOG_IDENTIFIER", "kernel"},
		"logger_to_the_journal":         {lostGPU, "_TRANSPORT", "journal", "SYSLOG_FACILITY", "0", "_SYSTEMD_UNIT", "session-1.scope"},
		"an_engine_about_a_gpu":         {lostGPU, "_TRANSPORT", "stdout", "_SYSTEMD_UNIT", unitOf("a")},
		"another_unit_of_the_slice":     {broken, "_TRANSPORT", "stdout", "_SYSTEMD_UNIT", "other.service", "UNIT", unitOf("a")},
		"a_user_in_an_engines_name": {broken, "_TRANSPORT", "journal", "_SYSTEMD_UNIT", "user@1000.service",
			"UNIT", unitOf("a"), "OBJECT_SYSTEMD_UNIT", unitOf("a"), "POOL_ID", "a"},
		"a_neighbour_in_an_engines_name": {broken, "_TRANSPORT", "journal", "_SYSTEMD_UNIT", unitOf("b"),
			"UNIT", unitOf("a"), "OBJECT_SYSTEMD_UNIT", unitOf("a"), "POOL_ID", "a"},
	} {
		scenario(t, name, func(t *testing.T, w *world) {
			h := twoGPUs()
			m := onReadyGPU(t, w, h)
			h.hang(true)
			h.entry(entry[0], entry[1:]...)
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateReady, true)
			if n := w.called("stop") + w.called("kill"); n != 0 || h.times() != 0 {
				t.Errorf("asked NVML %d times; calls %v", h.times(), w.calls)
			}
		})
	}
}

// TestLineLimit: a writer of many lines loses its own, and no other's.
func TestLineLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLineLimit(slog.New(slog.DiscardHandler))
		taken := 0
		for range 1000 {
			if l.take("a", time.Now()) {
				taken++
			}
		}
		if taken != linesMost || !l.take("b", time.Now()) || !l.take("", time.Now()) {
			t.Errorf("%d of one writer's lines were taken, want %d, and all of the others'", taken, linesMost)
		}
		time.Sleep(linesEvery)
		if !l.take("a", time.Now()) {
			t.Error("not taken in the next period")
		}
		for i := range 2 * mostWriters {
			l.take(unitOf(strconv.Itoa(i)), time.Now())
		}
		if len(l.taken) > mostWriters {
			t.Errorf("%d writers are kept", len(l.taken))
		}
	})
}

// TestQueryOfTheLog: each field that the query relies on is journald's own, or bound to one.
func TestQueryOfTheLog(t *testing.T) {
	scenario(t, "trusted_fields", func(t *testing.T, w *world) {
		h := twoGPUs()
		asked := make(chan systemd.JournalQuery, 1)
		w.manage(t, pools(onGPU("a", "0")), withGPUs(h), func(o *Options) { o.Journal = queried{logOf{h}, asked} })
		h.tell()
		got := strings.Join((<-asked).Matches, " ")
		if got != "_TRANSPORT=kernel SYSLOG_FACILITY=0 + _SYSTEMD_SLICE=pool-engines.slice" {
			t.Errorf("the log is followed by %q", got)
		}
	})
}

// queried is a log that hands over the query by which it is followed.
type queried struct {
	logOf
	asked chan systemd.JournalQuery
}

func (q queried) Follow(ctx context.Context, query systemd.JournalQuery, deliver func(systemd.JournalEntry)) error {
	q.asked <- query
	return q.logOf.Follow(ctx, query, deliver)
}

func (h *gpuHost) Fresh(ctx context.Context) (*nvml.Snapshot, error) {
	h.mu.Lock()
	hung, s := h.hung, h.now
	h.asked++
	h.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.Taken = time.Now()
	return &s, nil
}

// times is how often NVML was asked for a sample.
func (h *gpuHost) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// hang has NVML stop answering, or answer again.
func (h *gpuHost) hang(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hung = on
}

// kernelSays is a record of the kernel's log, with the fields that journald gives it.
func (h *gpuHost) kernelSays(line string) {
	h.entry(line, "_TRANSPORT", "kernel", "SYSLOG_FACILITY", "0")
}

// entry is an entry of the journal with these fields.
func (h *gpuHost) entry(line string, fields ...string) {
	e := systemd.JournalEntry{Fields: map[string]string{"MESSAGE": line}}
	for i := 0; i < len(fields); i += 2 {
		e.Fields[fields[i]] = fields[i+1]
	}
	h.lines <- e
	synctest.Wait()
}
