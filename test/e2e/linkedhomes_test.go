//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// linkHomes makes a home that is a link to another disk, with engines behind links of all kinds. A
// path that is joined by the names of the links leads nowhere.
const linkHomes = `
	mkdir -p /data/ann /data/bob/bin /data/apps /data/links; cp ` + host.StubEngine + ` /data/apps/engine
	ln -sfn /data/ann /home/ann; ln -sfn /data/bob /home/bob
	ln -sfn ../apps/engine /data/ann/relative
	ln -sfn links/engine /data/ann/levels; ln -sfn ../links /data/ann/links; ln -sfn ../apps/engine /data/links/engine
	ln -sfn ../apps /data/bob/folder
	ln -sfn bin/../../apps/engine /data/bob/above; ln -sfn /data/apps /data/bob/bin/x
	ln -sfn ../gone/engine /data/ann/dangling`

// TestLinkedHomes: a binary behind a link in a home that is a link itself is found as the kernel
// finds it, and one that is not there is reported as that.
func TestLinkedHomes(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.Container})
	h.shell(linkHomes)
	defer h.shell("rm -rf /data /home/ann /home/bob")
	engines := map[string]string{"relative": "/home/ann/relative", "levels": "/home/ann/levels",
		"folder": "/home/bob/folder/engine", "above": "/home/bob/above", "dangling": "/home/ann/dangling"}
	for id, binary := range engines {
		p := stub().quick()
		p.tables[0] = "[provisioning]\nbinary = \"" + binary + "\""
		h.pool(id, p)
	}
	h.reload()
	for id := range engines {
		t.Run(id, func(t *testing.T) {
			h := h.in(t)
			if id != "dangling" {
				h.wait(id, isReady, restarted(0))
				return
			}
			p := h.wait(id, failsWith("PROVISION_FAILED"))
			if !strings.Contains(p.LastError, "binary /home/ann/dangling does not exist") {
				t.Errorf("its error is %q", p.LastError)
			}
		})
	}
}
