//go:build machine

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// packaged is a machine of its own, in which a test installs and removes the package.
type packaged struct {
	*machine.Machine
	host *host.Host
}

func packageMachine(t *testing.T, cfg machine.Config) packaged {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := machines.artifacts(ctx); err != nil {
		t.Fatal(err)
	}
	newer, err := machines.newer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Files = append(cfg.Files,
		machine.File{Guest: "/root/this.deb", Host: machines.parts.Deb},
		machine.File{Guest: "/root/newer.deb", Host: newer},
		machine.File{Guest: host.StubEngine, Host: machines.parts.Stub, Mode: 0o755})
	m := machine.Start(t, cfg)
	return packaged{m, host.New(m)}
}

// is fails the test unless the script prints just want.
func (p packaged) is(t *testing.T, want, script string) {
	t.Helper()
	if got := p.MustShell(t, script); got != want {
		t.Errorf("%s\nprinted %q, want %q", script, got, want)
	}
}

// startEngine gives the manager one pool of the stand-in engine, waits until it is ready, and
// returns its unit and what identifies its run.
func (p packaged) startEngine(t *testing.T) (unit, run string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, content := range map[string]string{host.ConfigFile: host.Config,
		host.PoolFile("a"): command().quick().String()} {
		if err := p.host.WriteFile(ctx, name, content); err != nil {
			t.Fatal(err)
		}
	}
	p.MustRun(t, "systemctl", "reload", "pool-managerd.service")
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		pool, err := p.host.Pool(ctx, "a")
		if err == nil && !pool.Ready {
			err = fmt.Errorf("not ready: %s", pool)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return host.EngineUnit("a"), p.run(t, host.EngineUnit("a"))
}

// run is what changes when a unit is stopped, restarted or recreated.
func (p packaged) run(t *testing.T, unit string) string {
	t.Helper()
	return p.MustRun(t, "systemctl", "show", "--property=ActiveState,MainPID,InvocationID,NRestarts", unit)
}

// answers waits until the manager does.
func (p packaged) answers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.host.Answering(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestPackage goes through the life of the package on each release: installed, upgraded, removed,
// installed again, purged. The cases build on each other.
func TestPackage(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			p := packageMachine(t, machine.Config{Release: release})
			for _, c := range []struct {
				name string
				test func(*testing.T, packaged)
			}{
				{"installed", packageInstalled},
				{"sandbox", packageSandbox},
				{"gpu_helper", packageGPU},
				{"gpu_helper_apart", packageGPUApart},
				{"upgraded", packageUpgraded},
				{"drains", packageDrains},
				{"removed", packageRemoved},
				{"installed_again", packageInstalledAgain},
				{"purged", packagePurged},
			} {
				if !t.Run(c.name, func(t *testing.T) { c.test(t, p) }) {
					break
				}
			}
		})
	}
}

// packageInstalled: dpkg alone, with nothing but the machine's own packages, leaves a manager that
// answers on both listeners.
func packageInstalled(t *testing.T, p packaged) {
	p.MustRun(t, "dpkg", "--install", "/root/this.deb")
	p.answers(t)
	p.is(t, "enabled\nenabled", "systemctl is-enabled pool-managerd.socket pool-managerd.service")
	p.is(t, "active\nactive", "systemctl is-active pool-managerd.socket pool-managerd.service")
	wantType := "notify-reload"
	if p.Release().SystemdVersion() < 253 {
		wantType = "notify"
	}
	p.is(t, wantType, "systemctl show --property=Type --value pool-managerd.service")
	p.is(t, "30s", "systemctl show --property=WatchdogUSec --value pool-managerd.service")
	p.is(t, "srw-rw-rw- root root", "stat -c '%A %U %G' /run/pool-managerd/api.sock")
	p.is(t, "srw-rw---- root pool-managerd", "stat -c '%A %U %G' /run/pool-managerd/admin.sock")
	p.is(t, "404", "setpriv --reuid=nobody --regid=pool-managerd --clear-groups curl -s -o /dev/null "+
		"-w '%{http_code}' --unix-socket /run/pool-managerd/admin.sock http://localhost/v1/pools/none/unit")
	p.is(t, "7", "setpriv --reuid=nobody --regid=nogroup --clear-groups curl -s -o /dev/null "+
		"--unix-socket /run/pool-managerd/admin.sock http://localhost/v1/pools || echo $?")
	p.is(t, "127.0.0.1:9200", "ss --tcp --listening --numeric --no-header 'sport = 9200' | awk '{ print $4 }'")
	p.is(t, "200", "setpriv --reuid=nobody --regid=nogroup --clear-groups curl -s -o /dev/null -w '%{http_code}' "+
		"--unix-socket /run/pool-managerd/api.sock http://localhost/v1/pools")
	p.MustShell(t, "getent group pool-managerd")
	p.MustShell(t, "poolctl version && pool-managerd --version && pool-managerd --check")
	p.MustShell(t, "bash -n /usr/share/bash-completion/completions/poolctl")
	for _, page := range []string{"man1/poolctl.1", "man5/pool-managerd.toml.5", "man5/pool-file.5",
		"man8/pool-managerd.8", "man8/pool-gpu.8"} {
		p.MustShell(t, "gzip -dc /usr/share/man/"+page+".gz | grep -q '^\\.Sh NAME'")
	}
	for page, word := range map[string]string{"failures": "MODEL_NOT_FOUND", "states": "unhealthy",
		"metrics": "tokens_out_total", "sandbox": "DynamicUser", "log": "MESSAGE_ID"} {
		p.MustShell(t, "gzip -dc /usr/share/man/man7/pool-managerd-"+page+".7.gz | grep "+word+" >/dev/null")
	}
	// What comes with the package is not a pool, and PID 1 logs no warning about the units.
	p.is(t, "", "find /etc/pool-managerd/pools.d -name '*.toml'")
	p.is(t, "", "journalctl --boot --priority=warning --output=cat _PID=1 | grep -i pool- || true")
	p.is(t, "", "dpkg --verify pool-managerd")
}

// packageSandbox: the manager is root without anything that makes root powerful, and cannot execute
// a program.
func packageSandbox(t *testing.T, p packaged) {
	pid := p.MustShell(t, "systemctl show --property=MainPID --value pool-managerd.service")
	for field, want := range map[string]string{
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		p.is(t, want, "awk '$1 == \""+field+":\" { print $2 }' /proc/"+pid+"/status")
	}
	for _, program := range []string{"/bin/sh", "/usr/bin/env", "/usr/bin/poolctl",
		"/usr/lib/pool-managerd/pool-gate"} {
		r := p.Run(t.Context(), "nsenter", "--target", pid, "--mount", "--", program)
		if r.ExitCode == 0 || !strings.Contains(r.Stderr, "Permission denied") {
			t.Errorf("%s could be executed where the manager runs: exit code %d\n%s", program, r.ExitCode, r.Stderr)
		}
	}
	// The control: the manager itself can be, or its reload command could not.
	p.MustRun(t, "nsenter", "--target", pid, "--mount", "--", "/usr/bin/pool-managerd", "--version")

	// Root owns that file, and a kernel may let a running program be written: the mount must not.
	p.is(t, "ro", `awk '$5 == "/usr/bin/pool-managerd" { print substr($6, 1, 2) }' /proc/`+pid+"/mountinfo")

	// It can write only to its own directories, and they contain no program. /proc/PID/root is its
	// view of the file system.
	p.is(t, "/run/pool-managerd\n/var/cache/pool-managerd\n/var/lib/pool-managerd", `
		for dir in / /etc /etc/pool-managerd /etc/pool-managerd/pools.d /etc/systemd/system /usr/bin /root /srv /home /boot \
			/run /run/pool-managerd /run/systemd /run/systemd/transient /var/cache /var/cache/pool-managerd \
			/var/lib /var/lib/private /var/lib/pool-managerd /sys/fs/cgroup; do
			mkdir -p $dir
			if cp /bin/true /proc/`+pid+`/root$dir/program 2>/dev/null; then echo $dir; fi
		done`)
	for _, dir := range []string{"/run/pool-managerd", "/var/lib/pool-managerd", "/var/cache/pool-managerd", "/tmp",
		"/var/tmp", "/dev/shm"} {
		program := "/proc/" + pid + "/root" + dir + "/program"
		p.MustShell(t, "cp /bin/true "+program)
		r := p.Run(t.Context(), "nsenter", "--target", pid, "--mount", "--", dir+"/program")
		if r.ExitCode == 0 || !strings.Contains(r.Stderr, "Permission denied") {
			t.Errorf("a program in %s could be executed where the manager runs: exit code %d\n%s", dir, r.ExitCode,
				r.Stderr)
		}
		p.MustShell(t, "rm "+program)
	}
}

// packageUpgraded: the manager is another process of another version, the sockets and the engines
// are what they were, and what the administrator wrote stays.
func packageUpgraded(t *testing.T, p packaged) {
	unit, engine := p.startEngine(t)
	p.MustShell(t, "echo '# mine' >>/etc/pool-managerd/config.toml")
	manager, helper := p.run(t, host.ManagerUnit), p.helper(t)
	sockets := "systemctl show --property=InvocationID pool-managerd.socket pool-gpu.socket; stat -c %i " +
		"/run/pool-managerd/api.sock " + gpuSocket
	before := p.MustShell(t, sockets)
	// As after a version that had no socket for administrators.
	p.MustRun(t, "systemctl", "stop", "pool-managerd-admin.socket")
	p.MustRun(t, "poolctl", "list")

	p.MustRun(t, "dpkg", "--install", "/root/newer.deb")

	p.answers(t)
	p.MustShell(t, "curl -sS --max-time 10 --unix-socket /run/pool-managerd/admin.sock http://localhost/health")
	if got := p.MustRun(t, "pool-managerd", "--version"); !strings.Contains(got, "999.0.0") {
		t.Errorf("the program is %s", got)
	}
	if p.run(t, host.ManagerUnit) == manager {
		t.Error("the old manager still runs")
	}
	if p.helper(t) == helper {
		t.Error("the old GPU helper still runs")
	}
	p.is(t, "999.0.0", "/usr/lib/pool-managerd/pool-gpu --version | grep -o '[0-9.]*$'")
	if got := p.run(t, unit); got != engine {
		t.Errorf("the engine was touched: %s, it was %s", got, engine)
	}
	p.is(t, before, sockets)
	p.is(t, "# mine", "tail -n 1 /etc/pool-managerd/config.toml")

	// One that was stopped by hand stays stopped.
	p.MustRun(t, "systemctl", "stop", "pool-managerd.service")
	p.MustRun(t, "dpkg", "--install", "/root/this.deb")
	p.is(t, "inactive", "systemctl is-active pool-managerd.service || true")
	if got := p.run(t, unit); got != engine {
		t.Errorf("the engine was touched: %s, it was %s", got, engine)
	}
	p.MustRun(t, "systemctl", "start", "pool-managerd.service")
}

// packageRemoved: nothing runs, and what was written is kept for another installation.
func packageRemoved(t *testing.T, p packaged) {
	p.helper(t)
	p.MustShell(t, "systemctl is-active "+host.EngineUnit("a")+
		"; pgrep -x stubengine; touch /var/lib/pool-managerd/kept")

	p.MustRun(t, "dpkg", "--remove", "pool-managerd")

	p.is(t, "", "pgrep -x stubengine || true")
	p.is(t, "", "systemctl list-units --plain --no-legend 'pool-*'")
	p.is(t, "", "systemctl list-units --plain --no-legend --failed")
	p.is(t, "", "pgrep -x pool-gpu || true")
	p.is(t, "", "find /run/pool-managerd -type s")
	p.is(t, "", "ss --tcp --listening --no-header 'sport = 9200'")
	p.MustShell(t, "ls /etc/pool-managerd/config.toml /etc/pool-managerd/pools.d/a.toml /var/lib/pool-managerd/kept")
}

// packageInstalledAgain: after a removal the manager comes back by itself, with the former
// configuration.
func packageInstalledAgain(t *testing.T, p packaged) {
	p.MustRun(t, "dpkg", "--install", "/root/this.deb")
	p.answers(t)
	p.is(t, "active\nactive\nactive", "systemctl is-active pool-managerd.socket pool-managerd.service pool-gpu.socket")
	p.is(t, "# mine", "tail -n 1 /etc/pool-managerd/config.toml")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		return p.host.M.Run(ctx, "systemctl", "is-active", host.EngineUnit("a")).Check()
	}); err != nil {
		t.Error(err)
	}
}

// packagePurged: state, cache and runtime directories go, those of engines included; what the
// administrator wrote stays, and PID 1 keeps files of its own in /run/systemd/units.
func packagePurged(t *testing.T, p packaged) {
	p.MustShell(t, "ls -d /var/lib/private/pool-engine/a.r0 /var/cache/private/pool-engine/a.r0 /var/lib/pool-engine")

	p.MustRun(t, "dpkg", "--purge", "pool-managerd")

	p.is(t, "/etc/pool-managerd\n/etc/pool-managerd/pools.d\n/etc/pool-managerd/pools.d/a.toml",
		"find /etc /run /usr /var -xdev -path /run/systemd/units -prune -o -path '*pool-managerd*' -print -o -path "+
			"'*pool-engine*' -print | sort")
	p.is(t, "", "find /etc/systemd -xtype l")
}

// TestPackageInChroot: in an image build no PID 1 answers. The package is installed, enabled for
// the first boot, and removed, and nothing is started or stopped.
func TestPackageInChroot(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			p := packageMachine(t, machine.Config{Release: release})
			p.MustShell(t, "mkdir /mnt/image && mount --bind / /mnt/image && mount --bind /dev /mnt/image/dev && "+
				"test ! -e /mnt/image/run/systemd/system")
			p.MustRun(t, "chroot", "/mnt/image", "dpkg", "--install", "/root/this.deb")
			p.is(t, "enabled\nenabled\nenabled",
				"chroot /mnt/image systemctl is-enabled pool-managerd.socket pool-managerd.service pool-gpu.socket")
			p.MustShell(t, "getent group pool-managerd")
			p.is(t, "", "pgrep -x pool-managerd || true")

			// The first boot of that image.
			if err := p.Reboot(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.answers(t)
			unit, engine := p.startEngine(t)

			p.helper(t)

			p.MustShell(t, "mount --bind / /mnt/image && mount --bind /dev /mnt/image/dev")
			p.MustRun(t, "chroot", "/mnt/image", "dpkg", "--purge", "pool-managerd")
			if got := p.run(t, unit); got != engine {
				t.Errorf("the engine of the running system was touched: %s, it was %s", got, engine)
			}
		})
	}
}

// TestPackageRPM: the same scripts under rpm, which calls them with other arguments.
func TestPackageRPM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build(t, "rpm", dir)
	build(t, "rpm", dir, "VERSION=999.0.0")
	p := packageMachine(t, machine.Config{Release: machine.Trixie, Packages: []string{"rpm"},
		Files: []machine.File{{Guest: "/root/rpms", Host: dir}}})
	newer := p.MustShell(t, "ls /root/rpms/*-999.0.0-*.rpm")
	const directories = "find / -xdev -type d -not -path '/run/*' -not -path '/tmp/*' -not -path '/var/tmp/*' | sort"
	before := p.MustShell(t, directories)

	// The dependencies are dpkg's here.
	p.MustShell(t, "rpm --install --nodeps $(ls /root/rpms/*.rpm | grep -v 999.0.0)")
	p.answers(t)
	p.is(t, "enabled\nenabled\nenabled", "systemctl is-enabled pool-managerd.socket pool-managerd.service "+
		"pool-gpu.socket")
	unit, engine := p.startEngine(t)
	manager, helper := p.run(t, host.ManagerUnit), p.helper(t)

	p.MustRun(t, "rpm", "--upgrade", "--nodeps", newer)
	p.answers(t)
	if p.run(t, host.ManagerUnit) == manager {
		t.Error("the old manager still runs")
	}
	if p.helper(t) == helper {
		t.Error("the old GPU helper still runs")
	}
	if got := p.run(t, unit); got != engine {
		t.Errorf("the engine was touched: %s, it was %s", got, engine)
	}

	p.MustRun(t, "rpm", "--erase", "pool-managerd")
	p.is(t, "", "pgrep -x stubengine || true")
	p.is(t, "", "systemctl list-units --plain --no-legend 'pool-*'; find /etc/systemd -xtype l")
	p.is(t, "", "ls -d /run/pool-managerd 2>/dev/null || true")
	// What is left has something in it that was written since: pool files, state, caches of
	// engines.
	had := strings.Split(before, "\n")
	for dir := range strings.SplitSeq(p.MustShell(t, directories), "\n") {
		if !slices.Contains(had, dir) && p.MustShell(t, "ls -A '"+dir+"'") == "" &&
			!strings.Contains(dir, "pool-engine/") {
			t.Errorf("an empty directory is left: %s", dir)
		}
	}
}

// TestPackageIsReproducible: the same source gives the same bytes, in another directory and at
// another time.
func TestPackageIsReproducible(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"deb", "rpm"} {
		t.Run(kind, func(t *testing.T) {
			first, second := build(t, kind, t.TempDir()), build(t, kind, t.TempDir())
			if !bytes.Equal(first, second) {
				t.Errorf("two builds differ: %d and %d bytes", len(first), len(second))
			}
		})
	}
}

// build makes a package below dir, leaves it there alone, and returns its bytes.
func build(t *testing.T, kind, dir string, variables ...string) []byte {
	t.Helper()
	args := append([]string{kind, "DIST=" + filepath.Join(dir, "dist"), "TOOLS=" + filepath.Join("dist", "tools"),
		"SOURCE_DATE_EPOCH=1700000000"}, variables...)
	cmd := exec.CommandContext(t.Context(), "make", args...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", kind, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "dist", "pool-managerd*."+kind))
	if err != nil || len(found) != 1 {
		t.Fatalf("make %s left %v (%v), want one package", kind, found, err)
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(found[0], filepath.Join(dir, filepath.Base(found[0]))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "dist")); err != nil {
		t.Fatal(err)
	}
	return content
}
