package supervise

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// TestHintOfAnOpenBreaker: what the last failure says to do is not lost when the breaker opens; one
// that only names the log gives way to the advice about its class.
func TestHintOfAnOpenBreaker(t *testing.T) {
	const reset = " poolctl reset a closes the breaker."
	advice := restarts.Launch.Advice()
	for _, c := range []struct{ name, hint, want string }{
		{"sandbox", `Add [sandbox] allow = ["proc"] to the pool's file.`, `Add [sandbox] allow = ["proc"] to the pool's file.`},
		{"log_alone", readLogs("pool-engine@a.r0.service"), advice},
		{"log_at_its_end", "Start it with exec. Run poolctl logs a.", "Start it with exec. Run poolctl logs a."},
		{"none", "", advice},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := registry.Fail(registry.CodeEngineStartFailed, "the engine exited with status 1", c.hint)
			v := restarts.Verdict{Failures: 5, Counted: 5, Cause: restarts.Launch, Advice: advice}
			if got := openErr(v, f, "a").Hint; got != c.want+reset {
				t.Errorf("got %q, want %q", got, c.want+reset)
			}
		})
	}
}
