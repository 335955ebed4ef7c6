package main

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

func TestEvents(t *testing.T) {
	h := newHost(t)
	h.fill()
	h.reg.Note(registry.Event{Kind: registry.KindCrash, At: clock, PoolID: "gemma", ReplicaID: "r0",
		State: registry.StateBackoff,
		Cause: "the engine was killed by SIGKILL", Failure: registry.Fail(registry.CodeEngineCrashed,
			"the engine was killed by SIGKILL\x1b[31m", "Read its log.")})
	h.reg.Note(registry.Event{Kind: registry.KindDrain, At: clock, PoolID: "phi", Cause: "drained by uid:0"})
	t.Run("of_all", func(t *testing.T) {
		r := h.run("events")
		if r.code != exitOK || !strings.Contains(r.out, "crash    gemma/r0  the engine was killed by SIGKILL") ||
			!strings.Contains(r.out, "drain    phi  drained by uid:0") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
		if strings.Contains(r.out, "\x1b") {
			t.Error("a control character of the daemon reached the terminal")
		}
	})
	t.Run("of_one_pool", func(t *testing.T) {
		if r := h.run("events", "phi"); r.code != exitOK || strings.Contains(r.out, "gemma") ||
			!strings.Contains(r.out, "drained by uid:0") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
	})
	t.Run("as_json", func(t *testing.T) {
		if r := h.run("events", "phi", "--json"); r.code != exitOK || !strings.Contains(r.out, `"kind":"drain"`) {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
	})
	t.Run("of_an_unknown_pool", func(t *testing.T) {
		if r := h.run("events", "gema"); r.code != exitNoPool || !strings.Contains(r.errOut, "Did you mean gemma?") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
	})
}

// TestGapOfEvents: the line of a gap has how many events are missing.
func TestGapOfEvents(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{`{"missed":null,"up_to_seq":7,"cause":"c"}`, "(events are missing here: "},
		{`{"missed":1,"up_to_seq":7,"cause":"c"}`, "(1 event is missing here: "},
		{`{"missed":12,"up_to_seq":7,"cause":"c"}`, "(12 events are missing here: "},
	} {
		var out syncBuffer
		a := &app{out: &out}
		if err := a.printEvent("gap", []byte(c.data)); err != nil || !strings.HasPrefix(out.String(), c.want) {
			t.Errorf("%s: %q (%v)", c.data, out.String(), err)
		}
	}
}
