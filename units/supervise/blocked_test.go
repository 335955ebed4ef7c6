package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestSandboxFindings: the end of a run that the sandbox causes names the line and the key to
// write, and no end whose cause is better known.
func TestSandboxFindings(t *testing.T) {
	const family = "OSError: [Errno 97] Address family not supported by protocol"
	const blocked = "mbind: Operation not permitted"
	for _, c := range []struct {
		name       string
		lines      []string
		code, sig  int
		want, hint string // parts; no want: the sandbox is not named
	}{
		{"netlink", []string{family}, cldExited, 1, "(RestrictAddressFamilies=)", `allow = ["netlink"]`},
		{"a_jit_without_a_log", []string{"serving"}, cldDumped, 5, "(MemoryDenyWriteExecute=)", `allow = ["jit"]`},
		{"cuda_first", []string{blocked, "CUDA error: an illegal memory access was encountered"}, cldKilled, 6, "", ""},
		{"a_callers_words", []string{"Received request x: prompt: '" + blocked + "'"}, cldExited, 1, "", ""},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _ := withLog(t, w, c.lines...)
			result := map[int]string{cldExited: "exit-code", cldKilled: "signal", cldDumped: "core-dump"}[c.code]
			w.change(unitOf("a"), ends(result, c.code, c.sig))
			m.wantState("a", registry.StateBackoff, false)
			time.Sleep(time.Second)
			f := m.pool("a").LastError
			named := strings.Contains(f.Message, "the sandbox")
			if named != (c.want != "") || !strings.Contains(f.Message, c.want) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%s (%s), want %q and %q", f.Message, f.Hint, c.want, c.hint)
			}
		})
	}
	scenario(t, "a_socket_without_a_network", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", alone)), forwards, func(o *Options) {
			o.Journal = &runLog{lines: map[string][]string{firstRun: {family}}}
		})
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		m.wantState("a", registry.StateBackoff, false)
		time.Sleep(time.Second)
		if f := m.pool("a").LastError; !strings.Contains(f.Hint, `network = "loopback"`) {
			t.Errorf("%s (%s)", f.Message, f.Hint)
		}
	})
}
