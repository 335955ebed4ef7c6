//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestCatalogue: journalctl finds a message by its id, and -x prints its text, right after the
// package was installed; of a change the journal has who asked for it.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	for _, m := range catalogue.Messages() {
		if out := h.must("journalctl", "--dump-catalog", m.ID); !strings.Contains(out, "Subject: "+m.Subject) {
			t.Errorf("%s: %s", m.Name, out)
		}
	}
	h.pool("a", command().quick())
	h.reload()
	h.wait("a", isReady)
	h.must("poolctl", "drain", "a", "--wait")
	// Each entry is in the journal before the answer that it is about, but for the last.
	read := func(id string, options ...string) string {
		return h.must(append([]string{"journalctl", "--no-pager", "-u", "pool-managerd", "MESSAGE_ID=" + id},
			options...)...)
	}
	if out := read(catalogue.PoolReady, "-x"); !strings.Contains(out, "Subject: Pool a is ready") ||
		!strings.Contains(out, "Documentation: man:poolctl(1)") {
		t.Errorf("%s", out)
	}
	if out := read(catalogue.DrainDone, "-x"); !strings.Contains(out, "poolctl resume a") {
		t.Errorf("%s", out)
	}
	if out := read(catalogue.DrainDone, "-o", "json"); !strings.Contains(out, `"CORRELATION_ID":"`) ||
		!strings.Contains(out, `"ENGINE":"command"`) || !strings.Contains(out, `"RESTART_COUNT":"0"`) {
		t.Errorf("%s", out)
	}
	if out := read(catalogue.Adopted); !strings.Contains(out, "adoption is complete") {
		t.Errorf("%s", out)
	}
	if out := read(catalogue.ChangeRequested, "-o", "json", "OPERATION=drain"); !strings.Contains(out, `"uid:0"`) ||
		!strings.Contains(out, `"POOL_ID":"a"`) || !strings.Contains(out, `"CORRELATION_ID":"`) {
		t.Errorf("%s", out)
	}
}
