//go:build machine

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestPackageOtherWays: what the package holds works as an extension of an immutable host, comes
// from a repository of apt, on another architecture, and beside the other message bus. The cases
// build on each other.
func TestPackageOtherWays(t *testing.T) {
	t.Parallel()
	p := packageMachine(t, machine.Config{Release: machine.Trixie,
		Packages: []string{"apt-utils", "dbus-broker", "gpg", "gpg-agent", "qemu-user"},
		Files: []machine.File{{Guest: "/root/repo", Host: filepath.Join("..", "..", "packaging", "repo"), Mode: 0o755},
			{Guest: "/root/arm64", Host: staticARM64(t)}}})
	for _, c := range []struct {
		name string
		test func(*testing.T, packaged)
	}{
		{"extension", packageExtension},
		{"repository", packageRepository},
		{"arm64", packageARM64},
		{"bill_of_materials", packageBill},
		{"dbus_broker", packageBroker},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.test(t, p) }) {
			break
		}
	}
}

// packageExtension: systemd-sysext lays /usr of the package over that of a host. What the programs
// need elsewhere has defaults, or is made at their start.
func packageExtension(t *testing.T, p packaged) {
	p.MustShell(t, `mkdir -p /run/extensions/pool-managerd && cd /run/extensions/pool-managerd
		dpkg-deb --extract /root/this.deb . && rm -r etc
		mkdir -p usr/lib/extension-release.d
		echo ID=_any >usr/lib/extension-release.d/extension-release.pool-managerd
		systemd-sysext merge`)
	p.is(t, "", "ls -d /etc/pool-managerd 2>/dev/null || true")
	p.MustShell(t, "systemctl daemon-reload && systemd-sysusers && systemctl start pool-managerd.socket "+
		"pool-managerd.service pool-gpu.socket")
	p.answers(t)
	p.is(t, "", "journalctl --boot --priority=warning --output=cat --unit=pool-managerd.service")
	p.MustShell(t, "mkdir -p /etc/pool-managerd/pools.d")
	unit, engine := p.startEngine(t)

	// Another version of the extension is another version of the manager, and engines go on.
	p.MustShell(t, "systemd-sysext refresh && systemctl daemon-reload && systemctl restart pool-managerd.service")
	p.answers(t)
	if got := p.run(t, unit); got != engine {
		t.Errorf("the engine was touched: %s, it was %s", got, engine)
	}
	p.MustShell(t, "rm -r /etc/pool-managerd; systemctl stop 'pool-*' || true; systemd-sysext unmerge; "+
		"rm -r /run/extensions/pool-managerd /var/lib/pool-managerd; "+
		"systemctl daemon-reload; groupdel pool-managerd; ! command -v poolctl")
}

// packageRepository: apt installs the package from a repository that packaging/repo made, signed
// with a key of the host's, and resolves what it depends on.
func packageRepository(t *testing.T, p packaged) {
	p.MustShell(t, `gpg --batch --quiet --passphrase '' --quick-generate-key local@pool-managerd.invalid ed25519 sign never
		REPO_KEY=local@pool-managerd.invalid /root/repo /srv/repo /root/this.deb
		cat >/etc/apt/sources.list.d/pool-managerd.sources <<-EOF
		Types: deb
		URIs: file:/srv/repo
		Suites: ./
		Signed-By: /srv/repo/key.asc
		EOF
		apt-get update -o Dir::Etc::sourceparts=- -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/pool-managerd.sources`)
	p.MustShell(t, "DEBIAN_FRONTEND=noninteractive apt-get install -y pool-managerd")
	p.answers(t)
	p.is(t, "file:/srv/repo", "apt-cache policy pool-managerd | grep -o 'file:/srv/repo' | head -n 1")

	// apt installs nothing that another key signed.
	p.MustShell(t, `gpg --batch --quiet --passphrase '' --quick-generate-key other@pool-managerd.invalid ed25519 sign never
		cd /srv/repo && gpg --batch --yes --local-user other@pool-managerd.invalid --clearsign --output InRelease Release`)
	r := p.Run(t.Context(), "sh", "-c", "apt-get update -o Dir::Etc::sourceparts=- "+
		"-o Dir::Etc::sourcelist=/etc/apt/sources.list.d/pool-managerd.sources -o APT::Update::Error-Mode=any")
	if r.ExitCode == 0 || !strings.Contains(r.Stdout+r.Stderr, "OpenPGP signature verification failed") {
		t.Errorf("an index with another signature was accepted:\n%s%s", r.Stdout, r.Stderr)
	}
}

// packageARM64: the static programs of the other architecture do their own work, emulated.
func packageARM64(t *testing.T, p packaged) {
	for script, want := range map[string]string{
		"pool-managerd --version":                "arm64-test",
		"poolctl version":                        "arm64-test",
		"pool-gate --version":                    "arm64-test",
		"pool-fetch --version":                   "arm64-test",
		"poolctl explain MODEL_NOT_FOUND":        "MODEL_NOT_FOUND",
		"pool-fleet --version":                   "arm64-test",
		"poolctl --host unix:/none list || true": "/none",
	} {
		if got := p.MustShell(t, "{ qemu-aarch64 /root/arm64/"+script+"; } 2>&1"); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", script, got, want)
		}
	}
}

// packageBill: the bill of materials lists each program as it is installed.
func packageBill(t *testing.T, p packaged) {
	bill := p.MustShell(t, "gzip -dc /usr/share/doc/pool-managerd/sbom.spdx.json.gz")
	for _, program := range []string{"/usr/bin/pool-managerd", "/usr/bin/poolctl", "/usr/lib/pool-managerd/pool-gate",
		"/usr/lib/pool-managerd/pool-gpu", "/usr/lib/pool-managerd/pool-fetch", "/usr/lib/pool-managerd/pool-fleet"} {
		if digest := p.MustShell(t, "sha256sum <"+program+" | cut -d' ' -f1"); !strings.Contains(bill, digest) {
			t.Errorf("%s is not in the bill of materials with its digest %s", program, digest)
		}
	}
	if !strings.Contains(bill, `"pkg:golang/github.com/godbus/dbus/v5@`) {
		t.Error("a module that is linked in is not in the bill of materials")
	}
}

// packageBroker: with dbus-broker as the message bus, engines start, are followed and start again.
func packageBroker(t *testing.T, p packaged) {
	p.MustRun(t, "systemctl", "enable", "dbus-broker.service")
	if err := p.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.is(t, "dbus-broker.service", "systemctl show --property=Id --value dbus.service")
	p.answers(t)
	unit, engine := p.startEngine(t)
	p.MustRun(t, "systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		pool, err := p.host.Pool(ctx, "a")
		if err == nil && (!pool.Ready || pool.RestartCount != 1 || p.run(t, unit) == engine) {
			err = fmt.Errorf("not ready again: %s", pool)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// staticARM64 cross-builds the static programs, and returns their directory.
func staticARM64(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags",
		"-s -w -X main.version=arm64-test", "-o", dir, "./cmd/pool-managerd", "./cmd/poolctl", "./cmd/pool-gate",
		"./cmd/pool-fetch", "./cmd/pool-fleet")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cross build: %v\n%s", err, out)
	}
	return dir
}
