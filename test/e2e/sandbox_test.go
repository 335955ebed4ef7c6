//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// shellEngine is a pool of engine "command" whose program is a script that ends with the stand-in
// engine, if it gets there.
func shellEngine(h *site, name, script string) poolFile {
	const dir = "/usr/local/lib/engines"
	path := dir + "/" + name
	h.must("mkdir", "-p", dir)
	h.write(path, "#!/bin/sh\n"+script+"\nexec "+host.StubEngine+` "$@"`+"\n")
	h.must("chmod", "755", path)
	return poolFile{keys: []string{`engine = "command"`, `devices = []`, `args = ["--port", "{port}"]`},
		tables: []string{"[provisioning]\nbinary = \"" + path + "\""}}
}

// TestSandboxHints: an engine that fails because of the sandbox names the line of the unit and what
// to write, and with that written it serves.
func TestSandboxHints(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.must("install", "-d", "-m", "1777", "/srv/slots")
	// "jit" ends as node does, which the machine does not have. ip(8) would end without a word: it
	// drops its capabilities, which is a call that no engine may make.
	for _, c := range []struct {
		name, script string
		text, hint   string // in last_error
		table        [2]string
		keys         string
	}{
		{name: "netlink", script: "bridge link >/dev/null || exit 1", text: "RestrictAddressFamilies=", hint: `[sandbox] allow = ["netlink"]`,
			table: [2]string{"sandbox", `allow = ["netlink"]`}},
		{name: "jit", script: `[ -n "$JIT" ] || { echo "# Check failed: 12 == (*__errno_location ())."; ulimit -c 0; kill -TRAP $$; }`,
			text: "MemoryDenyWriteExecute=", hint: `[sandbox] allow = ["jit"]`, table: [2]string{"sandbox", `allow = ["jit"]`}, keys: `env = { JIT = "1" }`},
		{name: "proc", script: "cat /proc/meminfo >/dev/null || exit 1", text: "ProcSubset=", hint: `[sandbox] allow = ["proc"]`,
			table: [2]string{"sandbox", `allow = ["proc"]`}},
		{name: "affinity", script: "taskset -c 0 true || exit 1", text: "SystemCallFilter=", hint: "[limits] cpus",
			table: [2]string{"sandbox", `allow = ["affinity"]`}},
		{name: "writable", script: "touch /srv/slots/x || exit 1", text: "hides /srv/slots/x from the engine, even where ls shows it",
			hint: `writable = ["/srv/slots/x"]`, keys: `writable = ["/srv/slots"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := c.name
			file := shellEngine(h, id, c.script).quick()
			h.pool(id, file)
			h.reload()
			p := h.wait(id, condition{"last_error with " + c.text, func(p host.Pool) bool {
				return strings.Contains(p.LastError, c.text)
			}})
			if p.Code() != "ENGINE_START_FAILED" || !strings.Contains(p.Hint, c.hint) {
				t.Errorf("last error %s (%s), want the hint %s", p.LastError, p.Hint, c.hint)
			}
			file = file.with(c.keys)
			if c.table[0] != "" {
				file = file.table(c.table[0], c.table[1])
			}
			h.pool(id, file)
			h.reload()
			h.wait(id, isReady)
			h.removePool(id)
			h.reload()
			h.waitGone(id)
		})
	}
	t.Run("slot_save_path_of_llama_server", func(t *testing.T) {
		file := llama().quick().with(`args = ["--slot-save-path", "/srv/slots/"]`)
		h.pool("slots", file)
		h.reload()
		p := h.wait("slots", condition{"a hint about writable", func(p host.Pool) bool {
			return strings.Contains(p.Hint, `writable = ["/srv/slots"]`)
		}})
		if !strings.Contains(p.Hint, "/var/lib/pool-engine/slots.r0") {
			t.Errorf("the state directory is not named: %s", p.Hint)
		}
		h.pool("slots", file.with(`writable = ["/srv/slots"]`))
		h.reload()
		h.wait("slots", isReady)
	})
	t.Run("noexec", func(t *testing.T) {
		h.shell("mkdir -p /opt/noexec && mount -t tmpfs -o noexec tmpfs /opt/noexec && cp " + host.StubEngine +
			" /opt/noexec/engine")
		file := command().quick()
		file.tables[0] = "[provisioning]\nbinary = \"/opt/noexec/engine\""
		h.pool("noexec", file)
		h.reload()
		h.wait("noexec", condition{"last_error with noexec", func(p host.Pool) bool {
			return p.Code() == "ENGINE_START_FAILED" && strings.Contains(p.LastError, "203/EXEC") &&
				strings.Contains(p.LastError, "mounted noexec")
		}})
		h.must("mount", "-o", "remount,exec", "/opt/noexec")
		h.wait("noexec", isReady)
		h.removePool("noexec")
		h.reload()
		h.waitGone("noexec")
		h.must("umount", "/opt/noexec")
	})
	t.Run("policy", func(t *testing.T) {
		h.write(host.ConfigFile, host.Config+"\n[policy]\nallowed_relaxations = [\"proc\"]\nallowed_writable = []\n")
		h.pool("denied", command().quick().with(`writable = ["/srv/slots"]`).table("sandbox",
			`allow = ["proc", "netlink"]`))
		out := h.shell("poolctl check 2>&1 && echo accepted || :")
		for _, want := range []string{"denied.toml:", `relaxes "netlink"`, "allowed_relaxations",
			`may not write to "/srv/slots"`, "allowed_writable"} {
			if !strings.Contains(out, want) {
				t.Errorf("poolctl check does not name %s:\n%s", want, out)
			}
		}
		h.reloadFails()
		p := h.wait("denied", condition{"POLICY_DENIED", func(p host.Pool) bool { return p.Code() == "POLICY_DENIED" }})
		if !strings.Contains(p.Hint, "[sandbox] allow") || !strings.Contains(p.Hint, "[policy] allowed_relaxations") {
			t.Errorf("hint %q", p.Hint)
		}
	})
}
