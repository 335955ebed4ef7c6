//go:build machine

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

const nasProgram = "/usr/local/libexec/nas-provisioner"

// nasModels are models of the scheme nas: in a folder that downloads do not see by themselves.
const nasModels = `
	mkdir -p /mnt/models/acme/tiny /mnt/models/acme/other /usr/local/libexec
	cp /srv/models/tiny.gguf /mnt/models/acme/tiny/; cp /srv/models/tiny.gguf /mnt/models/acme/other/other.gguf`

const endNas = `
	systemctl stop 'pool-fetch@*' || true; systemctl reset-failed || true
	rm -rf /mnt/models /usr/local/libexec/nas-provisioner /var/cache/pool-managerd/models /var/lib/executed`

// withNas is the host's configuration with a program for nas: models.
func withNas(keys ...string) string {
	return host.Config + "policy.egress = \"fetch\"\n[provisioning.programs.nas]\npath = \"" + nasProgram + "\"\n" +
		strings.Join(append([]string{`files = ["/mnt/models"]`}, keys...), "\n") + "\n"
}

// ofNas is a pool of a model that the program fetches.
func ofNas(name string) poolFile {
	p := stub().quick()
	p.keys[1] = `model = "nas:` + name + `"`
	return p
}

// program installs a script as the program.
func (h *site) program(script string) {
	h.t.Helper()
	if err := h.M.WriteFile(h.t.Context(), nasProgram, []byte(script), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// manualScript is the program in the page about provisioners.
func manualScript(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "provisioners.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(page), "```sh\n")
	script, _, ended := strings.Cut(script, "```\n")
	if !found || !ended {
		t.Fatal("the page has no script")
	}
	return script
}

// TestOwnProvisioner: a program of the host's own, here the shell script of the manual, fetches the
// models of its scheme in the sandboxed unit of a download. One that refuses, hangs, prints garbage
// or is killed costs its own pool some time, and the pool says why.
func TestOwnProvisioner(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.shell(nasModels)
			defer h.shell(endNas)
			t.Run("to_ready", func(t *testing.T) { programServes(h.in(t), manualScript(t)) })
			t.Run("sandboxed", func(t *testing.T) { programConfined(h.in(t)) })
			t.Run("refuses", func(t *testing.T) { programRefuses(h.in(t), manualScript(t)) })
			t.Run("hangs", func(t *testing.T) { programHangs(h.in(t)) })
			t.Run("garbage", func(t *testing.T) { programBabbles(h.in(t)) })
			t.Run("killed", func(t *testing.T) { programKilled(h.in(t), manualScript(t)) })
			t.Run("others_can_write_it", func(t *testing.T) { programLoose(h.in(t)) })
		})
	}
}

// programServes: before the key is set the pool file is refused with its line; then the pool goes
// to ready, and stays usable without the program.
func programServes(h *site, script string) {
	h.program(script)
	h.pool("a", ofNas("acme/tiny"))
	if _, err := h.Run(h.t.Context(), "poolctl", "check"); err == nil {
		h.t.Error("a model of a scheme that nothing fetches passes the check")
	}
	h.write(host.ConfigFile, withNas())
	h.must("poolctl", "check")
	h.reload()
	h.wait("a", isReady)
	if owner := h.shell("find /var/cache/pool-managerd/models/nas--* ! -user pool-fetch"); owner != "" {
		h.t.Errorf("these are not pool-fetch's: %s", owner)
	}
	out := h.must("poolctl", "models")
	if !strings.Contains(out, "nas--acme--tiny--") || !strings.Contains(out, " a ") {
		h.t.Errorf("poolctl models:\n%s", out)
	}
	h.must("mv", nasProgram, nasProgram+".gone")
	defer h.must("mv", nasProgram+".gone", nasProgram)
	h.must("poolctl", "restart", "a", "--wait")
	h.wait("a", isReady)
}

// another is a pool of a model that no other pool has, and which is gone afterwards.
func (h *site) another(name string, holds ...condition) host.Pool {
	h.t.Helper()
	h.shell("rm -rf /var/cache/pool-managerd/models/nas--acme--other*")
	h.pool("b", ofNas(name))
	h.reload()
	defer func() {
		h.must("rm", host.PoolFile("b"))
		h.reload()
		h.waitGone("b")
	}()
	return h.wait("b", holds...)
}

// mentions is a pool whose status or error has a text.
func mentions(what string) condition {
	return condition{what, func(p host.Pool) bool { return strings.Contains(fmt.Sprintf("%+v", p), what) }}
}

// programConfined: it sees none of what the host has in other folders, reaches no address, executes
// nothing that it brings along, and writes to its own folder alone.
func programConfined(h *site) {
	h.program(`#!/bin/sh
dir=$(sed -n 's/.*"cache_dir":"\([^"]*\)","directory":"\([^"]*\)".*/\1\/\2/p')
is() { if eval "$2" >/dev/null 2>&1; then printf '%s:yes ' "$1"; else printf '%s:no ' "$1"; fi; }
cp /bin/true "$dir/brought"; chmod +x "$dir/brought"
found=$(
	is share 'test -r /mnt/models/acme/tiny/tiny.gguf'
	is models 'test -r /srv/models/tiny.gguf'
	is config 'test -r /etc/pool-managerd/config.toml'
	is api 'test -e /run/pool-managerd/api.sock'
	is own 'touch "$dir/own"'
	is cache 'touch "$dir/../other"'
	is usr 'touch /usr/local/other'
	is brought '"$dir/brought"'
	is shell '/bin/sh -c true'
	is root 'test "$(id -u)" = 0'
)
printf '{"event":"error","reason":"not_found","message":"%s"}\n' "$found"
exit 1
`)
	const want = "share:yes models:no config:no api:no own:yes cache:no usr:no brought:no shell:yes root:no"
	p := h.another("acme/other", failsWith("MODEL_NOT_FOUND"))
	if !strings.Contains(p.LastError, want) {
		h.t.Errorf("%s, want %s", p.LastError, want)
	}
}

func programRefuses(h *site, script string) {
	h.program(script)
	p := h.another("acme/none", failsWith("MODEL_NOT_FOUND"))
	if !strings.Contains(p.LastError, "there is no /mnt/models/acme/none") {
		h.t.Errorf("%s (%s)", p.LastError, p.Hint)
	}
}

// programHangs: a program that prints nothing is stopped, and the pool says so.
func programHangs(h *site) {
	h.write(host.ConfigFile, withNas(`silence = "2s"`))
	defer h.write(host.ConfigFile, withNas())
	h.program(`#!/bin/sh
trap '' TERM
echo '{"event":"plan","total_bytes":5}'
while :; do sleep 1; done
`)
	h.another("acme/other", mentions("printed no event for 2s"))
	h.eventually(func(ctx context.Context) error { // the next attempt has a unit, until it is stopped too
		out, err := h.Run(ctx, "systemctl", "list-units", "--all", "--plain", "--no-legend", "pool-fetch@nas*")
		if err == nil && out != "" {
			err = fmt.Errorf("units are left: %s", out)
		}
		return err
	})
}

// programBabbles: what is no event is not believed, however much of it there is.
func programBabbles(h *site) {
	h.program(`#!/bin/sh
head -c 8000000 /dev/urandom
head -c 100000 /dev/zero
printf '\n{"event":"result"}\nbye\n'
`)
	h.another("acme/other", mentions("lines are no events"))
	if size := h.shell("du -sk /run/pool-managerd/fetch | cut -f1"); len(strings.TrimSpace(size)) > 5 {
		h.t.Errorf("the output takes %s kB", size)
	}
}

// unfinished lists what a copy that was ended has left.
const unfinished = "ls -d /var/cache/pool-managerd/models/nas--acme--other*/snapshots/*.new 2>/dev/null || true"

// programKilled: what a kill leaves is no model, and the next attempt makes it.
func programKilled(h *site, script string) {
	h.program(strings.Replace(script, "mv \"$to/$commit.new\"", "sleep 2\nmv \"$to/$commit.new\"", 1))
	killed := false
	h.another("acme/other", condition{"ready, after a kill in the middle", func(p host.Pool) bool {
		if !killed {
			if strings.Contains(h.shell(unfinished), ".new") {
				h.shell("systemctl kill --signal=KILL 'pool-fetch@nas--acme--other*'")
				killed = true
			}
		}
		return killed && isReady.holds(p)
	}})
	if left := h.shell(unfinished); strings.Contains(left, ".new") {
		h.t.Errorf("left: %s", left)
	}
}

// programLoose: a program that others than root can write is not executed.
func programLoose(h *site) {
	h.program("#!/bin/sh\ntouch /var/lib/executed\n")
	h.must("chmod", "o+w", nasProgram)
	p := h.another("acme/other", failsWith("PROVISION_FAILED"))
	if !strings.Contains(p.LastError, "other users than root can change it") ||
		!strings.Contains(p.Hint, "chmod go-w") {
		h.t.Errorf("%s (%s)", p.LastError, p.Hint)
	}
}
