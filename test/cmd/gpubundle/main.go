// Command gpubundle packs what `test/gpu/run` needs on a host with a GPU: the programs of the
// package, the trial, compiled tests, and systemd and the message bus out of a Debian root.
//
//	gpubundle --stage DIR --out FILE [--fake]
//
// --fake adds the fake driver, so that the bundle runs where there is no GPU. It owns the contents
// of the bundle. It must not know what a trial does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// maxSize of a bundle, in bytes.
const maxSize = 60 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpubundle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("gpubundle", flag.ContinueOnError)
	stage := f.String("stage", "", "what the package holds, as it lies in a file system")
	out := f.String("out", "",
		"the archive to write; its name ends in .tar.xz, or names a directory that must not exist")
	fake := f.Bool("fake", false, "add the fake driver")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *stage == "" || *out == "" || f.NArg() > 0 {
		return errors.New("usage: gpubundle --stage DIR --out FILE [--fake]")
	}
	root, err := machine.Build(ctx, machine.Recipe{Release: machine.Bookworm},
		func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return err
	}
	dir := *out
	if strings.HasSuffix(*out, ".tar.xz") {
		if dir, err = os.MkdirTemp("", "gpubundle-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if err := fill(ctx, dir, *stage, root, *fake); err != nil || dir == *out {
		return err
	}
	return pack(ctx, dir, *out)
}

// fill lays out the bundle below dir.
func fill(ctx context.Context, dir, stage, root string, fake bool) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"bin", "lib", "root/usr/bin", "test/gpu"} {
		if err := os.MkdirAll(at(name), 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(
		command(ctx, "cp", "-a", stage+"/.", at("root")),
		os.RemoveAll(at("root/usr/share")), // pages
		copySystemd(root, at("root")),
		copyLibraries(ctx, root, at("lib")),
		command(ctx, "cp", "-a", stage+"/usr/lib/pool-managerd/pool-gpu", at("bin")),
		goBuild(ctx, "build", at("bin/gputrial"), "./test/cmd/gputrial"),
		goBuild(ctx, "test", at("test/gpu/gpu.test"), "./test/gpu", "-c", "-tags=gpu"),
		command(ctx, "cp", "-a", "test/gpu/share", at("share")),
		command(ctx, "cp", "-a", "test/gpu/run", at("run")),
		tinymodel.Write(at("share/tiny.gguf"), tinymodel.Options{}),
		os.MkdirAll(at("test/packaging"), 0o755),
		command(ctx, "cp", "-a", "packaging/systemd", at("test/packaging/systemd")),
	); err != nil {
		return err
	}
	// The compiled tests look for the packaged units where the source tree has them.
	if err := os.MkdirAll(at("test/test"), 0o755); err != nil {
		return err
	}
	if err := os.Rename(at("test/gpu"), at("test/test/gpu")); err != nil || !fake {
		return err
	}
	return addFake(ctx, dir)
}

// addFake adds the fake driver, its library and stand-ins for nvidia-smi and PyTorch.
func addFake(ctx context.Context, dir string) error {
	at := func(name string) string { return filepath.Join(dir, "fake", name) }
	work, err := os.MkdirTemp("", "fakenvml-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	library, err := fakenvml.Build(ctx, work, false)
	if err != nil {
		return err
	}
	return errors.Join(command(ctx, "cp", "-a", "test/gpu/fake", filepath.Join(dir, "fake")),
		os.MkdirAll(at("lib"), 0o755),
		command(ctx, "cp", library, at("lib")), goBuild(ctx, "build", at("bin/fakegpu"), "./test/fakegpu"))
}

// programs of systemd and the message bus that the container runs.
var programs = []string{
	"usr/lib/systemd/systemd", "usr/lib/systemd/systemd-journald", "usr/lib/systemd/systemd-shutdown",
	"usr/bin/journalctl", "usr/bin/systemctl", "usr/bin/systemd-sysusers", "usr/bin/systemd-run",
	"usr/bin/systemd-analyze", "usr/bin/systemd-tmpfiles", "usr/bin/dbus-daemon", "usr/bin/busctl",
}

// units that the container's systemd has; the host's are left out.
var units = []string{
	"basic.target", "sysinit.target", "local-fs.target", "local-fs-pre.target", "sockets.target",
	"timers.target", "paths.target",
	"slices.target", "swap.target", "shutdown.target", "umount.target", "final.target", "multi-user.target",
	"network.target",
	"rescue.target", "emergency.target", "exit.target", "systemd-exit.service", "halt.target",
	"poweroff.target", "reboot.target",
	"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "dbus.service",
	"dbus.socket",
	"user.slice",
}

// wanted are links in the wants directories.
var wanted = map[string]string{
	"sysinit.target.wants/systemd-journald.service":        "../systemd-journald.service",
	"sockets.target.wants/systemd-journald.socket":         "../systemd-journald.socket",
	"sockets.target.wants/systemd-journald-dev-log.socket": "../systemd-journald-dev-log.socket",
}

// copySystemd copies systemd and the message bus out of a Debian root.
func copySystemd(root, to string) error {
	files := append([]string{"usr/share/dbus-1/system.conf"}, programs...)
	for _, u := range units {
		files = append(files, "usr/lib/systemd/system/"+u)
	}
	for _, pattern := range []string{"usr/lib/x86_64-linux-gnu/systemd/*.so", "usr/lib/systemd/libsystemd-*.so",
		"usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			files = append(files, strings.TrimPrefix(path, root+"/"))
		}
	}
	for _, name := range files {
		if err := copyFile(filepath.Join(root, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	for link, target := range wanted {
		path := filepath.Join(to, "usr/lib/systemd/system", link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a file, or what a link leads to, with its mode.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

// libc is what every host has in a version of its own; it must be that one.
var libc = []string{"libc.so", "libm.so", "ld-linux", "linux-vdso", "libpthread", "libdl.so", "librt.so",
	"libsystemd-shared", "libsystemd-core"}

// copyLibraries copies the libraries of the programs. A host that has one uses its own.
func copyLibraries(ctx context.Context, root, to string) error {
	for _, p := range programs {
		out, err := exec.CommandContext(ctx, "chroot", root, "ldd", "/"+p).Output()
		if err != nil {
			return fmt.Errorf("ldd %s: %w", p, err)
		}
		for line := range strings.Lines(string(out)) {
			name, rest, ok := strings.Cut(strings.TrimSpace(line), " => ")
			path, _, _ := strings.Cut(rest, " ")
			if !ok || excluded(name) {
				continue
			}
			// Links inside of the root are absolute in part: resolved as seen from there.
			real, err := exec.CommandContext(ctx, "chroot", root, "readlink", "-f", path).Output()
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if err := copyFile(filepath.Join(root, strings.TrimSpace(string(real))), filepath.Join(to,
				name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func excluded(name string) bool {
	for _, prefix := range libc {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// goBuild runs go build or go test into a file, static where it can be.
func goBuild(ctx context.Context, verb, out, pkg string, flags ...string) error {
	args := append([]string{verb, "-trimpath", "-ldflags=-s -w", "-o", out}, append(flags, pkg)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return report(cmd)
}

func command(ctx context.Context, name string, args ...string) error {
	return report(exec.CommandContext(ctx, name, args...))
}

func report(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// pack writes the archive, and fails if it is too large.
func pack(ctx context.Context, dir, out string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "tar", "-C", dir, "--owner=0", "--group=0", "--numeric-owner",
		"--sort=name", "-cJf", out, ".")
	cmd.Env = append(os.Environ(), "XZ_OPT=-1 -T0")
	if err := report(cmd); err != nil {
		return err
	}
	info, err := os.Stat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err != nil:
		return err
	case info.Size() > maxSize:
		return fmt.Errorf("%s has %d bytes, more than %d", out, info.Size(), maxSize)
	}
	fmt.Printf("%s, %.1f MiB\n", out, float64(info.Size())/(1<<20))
	return nil
}
