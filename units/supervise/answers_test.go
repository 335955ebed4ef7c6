package supervise

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// refusals are what metrics would count of answers that are not believed.
type refusals struct {
	noObserver
	subjects []string
}

func (r *refusals) AnswerRefused(_ registry.Pool, subject string) {
	r.subjects = append(r.subjects, subject)
}

// TestLyingEngine: what an engine reports is used within its bounds, or not at all; a lie is shown
// and counted once in a run.
func TestLyingEngine(t *testing.T) {
	for name, lie := range map[string]string{
		"largest":       `{"total_slots":9223372036854775807}`,
		"beyond_64_bit": `{"total_slots":18446744073709551614}`,
		"negative":      `{"total_slots":-2}`,
		"none":          `{"total_slots":0}`,
		"a_text":        `{"total_slots":"4"}`,
		"twice":         `{"total_slots":4,"total_slots":-1}`,
		"no_json":       `<html>` + strings.Repeat("x", 10_000),
	} {
		scenario(t, name, func(t *testing.T, w *world) {
			w.answers = lie
			w.deferred = "llamacpp:requests_deferred -1\n"
			counts := &refusals{}
			m := w.manage(t, pools(llama("a")), func(o *Options) { o.Observer = counts })
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			time.Sleep(time.Minute)
			p := m.pool("a")
			r := p.Replicas[0]
			if p.SlotsTotal != 1 || p.SlotsFree != 1 || r.QueueDepth != nil {
				t.Errorf("slots %d free of %d, queue %v", p.SlotsFree, p.SlotsTotal, r.QueueDepth)
			}
			slices.Sort(counts.subjects)
			if got := strings.Join(counts.subjects, " "); got != "queue slots" {
				t.Errorf("counted %q, want each subject once", got)
			}
			if len(r.RefusedAnswers) != 2 || !strings.HasPrefix(r.RefusedAnswers[0], "queue: ") ||
				!strings.HasPrefix(r.RefusedAnswers[1], "slots: ") || len(r.RefusedAnswers[1]) > 2*bounds.Excerpt {
				t.Errorf("refused answers %q", r.RefusedAnswers)
			}
			w.with(func() { w.answers, w.deferred = "", "llamacpp:requests_deferred 3\n" })
			time.Sleep(time.Minute)
			p = m.pool("a")
			if r := p.Replicas[0]; p.SlotsTotal != 4 || r.QueueDepth == nil || *r.QueueDepth != 3 ||
				len(r.RefusedAnswers) != 2 { // in this run it has lied
				t.Errorf("slots %d, queue %v, refused %q", p.SlotsTotal, r.QueueDepth, r.RefusedAnswers)
			}
			w.again(unitOf("a"))
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			if r := m.pool("a").Replicas[0]; len(r.RefusedAnswers) != 0 {
				t.Errorf("of a former run: %q", r.RefusedAnswers)
			}
		})
	}
	scenario(t, "an_engine_that_does_not_report_it_is_no_liar", func(t *testing.T, w *world) {
		w.answers, w.deferred = `{"other":1}`, "other 1\n"
		counts := &refusals{}
		m := w.manage(t, pools(llama("a")), func(o *Options) { o.Observer = counts })
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		if p := m.pool("a"); len(p.Replicas[0].RefusedAnswers)+len(counts.subjects) != 0 {
			t.Errorf("refused %q, counted %q", p.Replicas[0].RefusedAnswers, counts.subjects)
		}
	})
}

// TestRefusal: which errors of a question say that an engine's answer is not believed.
func TestRefusal(t *testing.T) {
	s := &Supervisor{o: Options{Prober: probe.New()}}
	for name, c := range map[string]struct {
		err     error
		refused bool
	}{
		"none":        {nil, false},
		"a_lie":       {bounds.Refuse(bounds.OfBusy, "it is -1"), true},
		"too_long":    {&probe.Error{Reason: probe.ReasonOther, Text: "long", Err: probe.ErrTooLong}, true},
		"no_http":     {&probe.Error{Reason: probe.ReasonHTTP, Text: "no"}, true},
		"a_status":    {&probe.Error{Reason: probe.ReasonStatus, Text: "status 501"}, false},
		"no_answer":   {&probe.Error{Reason: probe.ReasonTimeout, Text: "late"}, false},
		"no_endpoint": {errNotAsked, false},
		"another":     {errors.New("x"), false},
	} {
		if got := s.refusal(c.err); (got != "") != c.refused {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestEngineThatCannotBeAsked: what an engine does not report is unknown, and never none: one slot
// is assumed, and a drain waits for its deadline. The replica shows what is unknown, and why, for
// as long as it is.
func TestEngineThatCannotBeAsked(t *testing.T) {
	refuses := func(status int) error {
		return &probe.Error{Reason: probe.ReasonStatus, Text: fmt.Sprintf(`status %d ("no")`, status)}
	}
	for name, err := range map[string]error{
		"key": refuses(401), "no_such_path": refuses(404), "broken": refuses(500),
		"silent": &probe.Error{Reason: probe.ReasonTimeout, Text: "no answer within 2s"},
		"closed": &probe.Error{Reason: probe.ReasonRefused, Text: "nothing listens on the engine's port"},
	} {
		scenario(t, name, func(t *testing.T, w *world) {
			w.keyless, w.deaf = err, err
			m, _, _ := drainable(t, w)
			time.Sleep(time.Minute)
			p := m.pool("a")
			if p.SlotsTotal != 1 || len(p.Replicas[0].Unanswered) != 1 ||
				!strings.HasPrefix(p.Replicas[0].Unanswered[0], "number of slots (/props: ") {
				t.Errorf("slots %d, unknown %q", p.SlotsTotal, p.Replicas[0].Unanswered)
			}
			m.drain(20 * time.Second)
			time.Sleep(19 * time.Second)
			m.wantState("a", registry.StateDraining, false)
			if got := m.pool("a").Replicas[0].Unanswered; len(got) != 2 || !strings.Contains(got[0], "/slots: ") {
				t.Errorf("unknown %q, want the requests, too", got)
			}
			time.Sleep(2 * time.Second)
			m.wantState("a", registry.StateStopped, false)
			m.wantCode("a", registry.CodeDrainTimeout)
			if f := m.pool("a").LastError; !strings.Contains(f.Message, "it is unknown whether requests") {
				t.Error(f)
			}
		})
	}
	scenario(t, "it_can_be_asked_again", func(t *testing.T, w *world) {
		w.keyless = refuses(503)
		m, _, _ := drainable(t, w)
		time.Sleep(time.Minute)
		w.with(func() { w.keyless = nil })
		time.Sleep(time.Minute)
		if p := m.pool("a"); p.SlotsTotal != 4 || len(p.Replicas[0].Unanswered) != 0 {
			t.Errorf("slots %d, unknown %q", p.SlotsTotal, p.Replicas[0].Unanswered)
		}
	})
	scenario(t, "its_reload_goes_on_at_the_deadline_without_a_kill", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		w.with(func() { w.deaf = refuses(401) })
		m.reload("b.gguf", time.Minute)
		w.passGate(besideOf("a"))
		time.Sleep(50 * time.Second)
		if w.called("stop") != 0 {
			t.Errorf("stopped before the deadline: %v", w.calls)
		}
		time.Sleep(20 * time.Second)
		m.wantServed("r0b", "b.gguf")
	})
}
