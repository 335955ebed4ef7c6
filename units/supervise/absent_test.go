package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestAbsentGPU: what an engine on the CPU logs of a missing GPU is the reason of its end only
// where it ended with that.
func TestAbsentGPU(t *testing.T) {
	const absent = "no pinned memory pool: CUDA driver version is insufficient for CUDA runtime version"
	others := []string{"loading: echo:1", "failed to load 'echo' version 1", "All models are stopped",
		"error: creating server: Internal - failed to load all models"}
	for _, c := range []struct {
		name  string
		lines []string
		code  registry.Code
		says  string
	}{
		{"far_from_the_end", append([]string{absent}, others...), registry.CodeEngineCrashed, others[3]},
		{"at_the_end", append(others, absent), registry.CodeDriverError, "driver version is insufficient"},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _ := withLog(t, w, c.lines...)
			w.change(unitOf("a"), ends("exit-code", cldExited, 1))
			time.Sleep(time.Second)
			if f := m.pool("a").LastError; f.Code != c.code || !strings.Contains(f.Message, c.says) {
				t.Errorf("%s: %s", f.Code, f.Message)
			}
		})
	}
}
