package supervise

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestVariablesOfFilesCount: what files of variables held when they were staged is a part of the
// pool that is asked and rendered, also in a manager that takes it over, and is written nowhere.
func TestVariablesOfFilesCount(t *testing.T) {
	scenario(t, "a_prefix", func(t *testing.T, w *world) {
		w.modelIs("one")
		w.fileEnv = map[string]pool.FileVariable{"LLAMA_ARG_API_PREFIX": {Value: "/hidden"}}
		desired := pools(llama("a", func(p *pool.Pool) { p.EnvFiles = []string{"/etc/llm/env"} }))
		s := &shelf{kept: make(map[string]keep.Intent)}
		m := w.manage(t, desired, with(s, &held{}))
		w.passGate(unitOf("a"))
		below := func() {
			t.Helper()
			time.Sleep(10 * time.Second)
			belowBefore, before := w.called("get "+endpoint+"/hidden/"), w.called("get ")
			time.Sleep(2 * time.Minute)
			below, all := w.called("get "+endpoint+"/hidden/")-belowBefore, w.called("get ")-before
			if p := m.pool("a"); !p.Ready || p.SlotsTotal != 4 || below == 0 || below != all {
				t.Errorf("ready %t, %d slots, %d of %d questions below the prefix", p.Ready, p.SlotsTotal, below, all)
			}
		}
		below()
		m.apply(desired) // which has no values of its own
		below()
		m.kill()
		m = w.manage(t, desired, with(s, &held{}))
		below()
		if w.called("start") != 1 {
			t.Errorf("another engine was started: %v", w.calls)
		}
		if written := fmt.Sprintf("%#v", s.kept); strings.Contains(written, "/hidden") {
			t.Errorf("written down: %s", written)
		}
	})
}
