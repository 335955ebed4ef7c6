//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestAllowedBinaries: on a host that allows one engine, a pool that names none and one that names
// a link to it serve. A link that leads elsewhere stops its pool at the next reload, and one that
// users could change is refused with the command that closes it.
func TestAllowedBinaries(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	const links = "/usr/local/lib/links"
	h.shell("mkdir -p " + links + " && ln -sfn /usr/bin/llama-server " + links + "/engine")
	defer h.shell("rm -rf " + links)
	h.write(host.ConfigFile, host.Config+"policy.allowed_binaries = [\"/usr/bin/llama-server\"]\n")
	h.pool("default", llama().quick())
	h.pool("link", llama().quick().table("provisioning", `binary = "`+links+`/engine"`))
	h.reload()
	before := h.wait("default", isReady).Replicas[0].PID
	h.wait("link", isReady)

	h.shell("chmod 777 " + links)
	if h.Reload(t.Context()).Check() == nil {
		t.Error("a reload with a link that users can change succeeds")
	}
	p := h.wait("link", inState("refused"), failsWith("POLICY_DENIED"))
	if !strings.Contains(p.Hint, "chmod go-w '"+links+"'") {
		t.Errorf("hint %q", p.Hint)
	}
	h.shell("chmod go-w '" + links + "'")
	h.reload()
	h.wait("link", isReady)

	h.shell("ln -sfn /usr/bin/env " + links + "/engine")
	out, err := h.Run(t.Context(), "poolctl", "check")
	if err == nil || !strings.Contains(out, `is "/usr/bin/env", which is not allowed on this host`) {
		t.Errorf("poolctl check: %s (%v)", out, err)
	}
	if h.Reload(t.Context()).Check() == nil {
		t.Error("a reload with a link to another program succeeds")
	}
	h.wait("link", inState("refused"), failsWith("POLICY_DENIED"))
	if now := h.wait("default", isReady).Replicas[0].PID; now != before {
		t.Errorf("the other pool's engine is %d, it was %d", now, before)
	}
}
