package wire

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

func TestEnding(t *testing.T) {
	for name, c := range map[string]struct {
		ending *registry.Ending
		want   string
	}{
		"not_of_a_run": {nil, `null`},
		"status_0_is_reported_too": {&registry.Ending{Result: "exit-code", Uptime: 1500 * time.Millisecond, RestartCount: 2, EngineVersion: "b1", Lines: []string{"x"}},
			`{"result":"exit-code","exit_status":0,"uptime_ms":1500,"restart_count":2,"engine_version":"b1","lines":["x"]}`},
		"signal": {&registry.Ending{Result: "core-dump", Signal: "SIGSEGV", NoLines: "it logged nothing"},
			`{"result":"core-dump","signal":"SIGSEGV","restart_count":0,"lines":[],"no_lines":"it logged nothing"}`},
	} {
		f := registry.Fail(registry.CodeEngineCrashed, "", "")
		f.Ending = c.ending
		for _, got := range []any{PoolOf(&registry.Pool{LastError: f}).Details,
			replicaOf(&registry.Replica{LastError: f}).Details} {
			if text, err := json.Marshal(got); err != nil || string(text) != c.want {
				t.Errorf("%s: %s, %v; want %s", name, text, err, c.want)
			}
		}
	}
}
