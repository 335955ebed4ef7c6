package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Home is where the bundle is in the container.
const Home = "/usr/lib/gputrial"

// container is a systemd on the host's own root file system, with the bundle's files over it. It
// shares nothing that it could change with the host but the GPUs.
type container struct {
	work   string // a file system in memory: the overlay's upper layer and its mount
	root   string
	cgroup string
	cmd    *exec.Cmd
	log    *os.File
}

// startContainer boots one. Its results are below results() on the host.
func startContainer(t Tools) (*container, error) {
	c := &container{work: filepath.Join("/run", fmt.Sprintf("gputrial-%d", os.Getpid()))}
	c.root = filepath.Join(c.work, "root")
	err := c.start(t)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// results is the directory that the steps in the container write to.
func (c *container) results() string { return filepath.Join(c.work, "upper", Home, "out") }

func (c *container) start(t Tools) error {
	if err := c.layRoot(t); err != nil {
		return err
	}
	if err := c.makeCgroup(); err != nil {
		return err
	}
	var err error
	if c.log, err = os.Create(filepath.Join(t.Out, "container.log")); err != nil {
		return err
	}
	c.cmd = exec.Command(t.bin("gputrial"), "pid1", c.root, c.cgroup)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL, // with PID 1, all in the container
	}
	return c.cmd.Start()
}

// layRoot mounts the root file system, and lays systemd, the product and the bundle over it.
func (c *container) layRoot(t Tools) error {
	if err := os.MkdirAll(c.work, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("gputrial", c.work, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	upper, scratch := filepath.Join(c.work, "upper"), filepath.Join(c.work, "scratch")
	for _, dir := range []string{upper, scratch, c.root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, scratch)
	if err := unix.Mount("overlay", c.root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay of /: %w", err)
	}
	// The host's own services must not run in here. What the overlay removes stays on the host.
	for _, dir := range []string{"etc/systemd", "usr/lib/systemd", "etc/pool-managerd", "var/lib/pool-managerd",
		"var/log/journal"} {
		if err := os.RemoveAll(filepath.Join(c.root, dir)); err != nil {
			return fmt.Errorf("leave out the host's /%s: %w", dir, err)
		}
	}
	return errors.Join(c.copyTree(t.Dir+"/root", "/"), c.copyTree(t.Dir+"/bin", Home+"/bin"),
		c.copyTree(t.Dir+"/share", Home+"/share"), c.copyTree(t.Dir+"/test", Home+"/test"), c.libraries(t),
		os.MkdirAll(filepath.Join(c.root, Home, "out"), 0o755), c.copyTree(t.CUDA, Home+"/out/cuda"),
		c.identity(), c.fake(t), c.mounts(), c.unit(t))
}

// copyTree copies a directory, if there is one, to a path in the container.
func (c *container) copyTree(from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return nil
	}
	target := filepath.Join(c.root, to)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	_, err := output(context.Background(), "cp", "-a", "--no-preserve=ownership", from+"/.", target)
	return err
}

// libraries adds those that systemd needs and the host lacks.
func (c *container) libraries(t Tools) error {
	entries, err := os.ReadDir(filepath.Join(t.Dir, "lib"))
	if err != nil {
		return err
	}
	known, _ := output(context.Background(), "ldconfig", "-p")
	dir := filepath.Join(c.root, "usr/lib/x86_64-linux-gnu")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if strings.Contains(known, "\t"+e.Name()+" ") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(t.Dir, "lib", e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// machineID is the container's own.
const machineID = "7a6d8e0c1f2b4c5d9e3f0a1b2c3d4e60"

// identity adds the users of the message bus and of the journal, and gives the machine names of its
// own.
func (c *container) identity() error {
	at := func(name string) string { return filepath.Join(c.root, name) }
	for _, line := range []struct{ file, name, rest string }{
		{"etc/passwd", "messagebus", ":x:899:899::/nonexistent:/usr/sbin/nologin"},
		{"etc/group", "messagebus", ":x:899:"},
		{"etc/group", "systemd-journal", ":x:898:"},
	} {
		if err := addLine(at(line.file), line.name, line.rest); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/machine-id": machineID + "\n", "etc/hostname": "gputrial\n", "etc/fstab": "",
		"etc/hosts": "127.0.0.1 localhost\n127.0.1.1 gputrial\n::1 localhost\n",
	} {
		if err := os.Remove(at(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// addLine adds a user or group to a file that has none of that name.
func addLine(file, name, rest string) error {
	old, err := os.ReadFile(file)
	if err != nil || strings.Contains("\n"+string(old), "\n"+name+":") {
		return err
	}
	return os.WriteFile(file, append(old, name+rest+"\n"...), 0o644)
}

// onDisk are file systems that hold programs and data. Others have a meaning of their own.
var onDisk = []string{"ext4", "ext3", "ext2", "xfs", "btrfs", "squashfs", "overlay", "erofs", "virtiofs", "9p",
	"nfs4", "nfs", "zfs", "f2fs"}

// mounts shows the host's other file systems, read-only: an overlay has only one. The driver's
// libraries are often one, or are bound in file by file.
func (c *container) mounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, at := range mountPoints(string(text)) {
		if strings.HasPrefix(at, c.work) {
			continue
		}
		info, err := os.Stat(at)
		if err != nil {
			continue // it went away
		}
		target := filepath.Join(c.root, at)
		if info.IsDir() {
			err = os.MkdirAll(target, 0o755)
		} else if _, missing := os.Stat(target); missing != nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, nil, 0o644))
		}
		if err != nil {
			return err
		}
		if err := unix.Mount(at, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("show %s: %w", at, err)
		}
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", at, err)
		}
	}
	return nil
}

// mountPoints returns the mounts of mountinfo (proc_pid_mountinfo(5)) that have programs and data,
// besides the root.
func mountPoints(mountinfo string) []string {
	var all []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if dash < 0 || len(fields) < dash+2 || len(fields) < 5 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[4])
		hidden := slices.ContainsFunc([]string{"/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib/docker",
			"/var/lib/containerd", "/snap"},
			func(p string) bool { return at == p || strings.HasPrefix(at, p+"/") })
		if at != "/" && !hidden && slices.Contains(onDisk, fields[dash+1]) {
			all = append(all, at)
		}
	}
	return all
}

// target is what the container boots into: the message bus, the journal and the trial.
const target = `[Unit]
Requires=basic.target dbus.socket
After=basic.target dbus.socket
Wants=gputrial.service pool-managerd.service pool-gpu.socket
AllowIsolate=yes
`

const service = `[Unit]
After=dbus.socket
[Service]
Type=exec
Environment=PATH=%s PYTHON=%s LLAMA_SERVER=%s
ExecStart=%s
TimeoutStopSec=2
`

const config = `require_gpu = false
`

// unit writes the units that run the steps, and the manager's configuration.
func (c *container) unit(t Tools) error {
	command := []string{Home + "/bin/gputrial", "inside"}
	if t.Fake {
		command = append(command, "--fake")
	}
	python := t.Python
	if t.Fake {
		python = fakePython
	}
	path := Home + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:" + strings.Join(t.directories(), ":")
	for name, text := range map[string]string{
		"usr/lib/systemd/system/gputrial.target": target,
		"usr/lib/systemd/system/gputrial.service": fmt.Sprintf(service, path, python, t.Llama,
			strings.Join(command, " ")),
		"etc/pool-managerd/config.toml": config,
		"etc/systemd/journald.conf":     "[Journal]\nStorage=volatile\nAudit=no\nForwardToSyslog=no\n",
		"etc/systemd/system.conf":       "[Manager]\nShowStatus=no\n",
	} {
		file := filepath.Join(c.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text),
			0o644)); err != nil {
			return err
		}
	}
	return os.Symlink("gputrial.target", filepath.Join(c.root, "usr/lib/systemd/system/default.target"))
}

// directories are those of the tools.
func (t Tools) directories() []string {
	var all []string
	for _, p := range []string{t.Python, t.NVCC, t.SMI, t.Llama} {
		if p != "" {
			all = append(all, filepath.Dir(p))
		}
	}
	return all
}

// makeCgroup makes the group that is the container's root.
func (c *container) makeCgroup() error {
	mount, err := cgroup2()
	if err != nil {
		return err
	}
	controllers, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(controllers)) {
		// One that cannot be had is missing in the container, too; the report has those there.
		_ = os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), []byte("+"+name), 0o644)
	}
	c.cgroup = filepath.Join(mount, filepath.Base(c.work))
	return os.Mkdir(c.cgroup, 0o755)
}

// cgroup2 returns where the unified hierarchy is mounted.
func cgroup2() (string, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup2 hierarchy is mounted on this host")
}

// wait returns when the steps have written their report, or why there will be none.
func (c *container) wait(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(c.results(), doneFile)); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			c.cmd = nil
			return fmt.Errorf("PID 1 of the container ended: %w (container.log has its output)", err)
		case <-ctx.Done():
			return fmt.Errorf("the steps in the container took too long: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close ends the container and removes what it had.
func (c *container) close() error {
	var failed []error
	if c.cmd != nil && c.cmd.Process != nil {
		failed = append(failed, ignore(c.cmd.Process.Kill(), os.ErrProcessDone))
	}
	if c.cgroup != "" {
		failed = append(failed, c.endCgroup())
	}
	if c.log != nil {
		failed = append(failed, c.log.Close())
	}
	failed = append(failed, ignore(unix.Unmount(c.root, unix.MNT_DETACH), unix.EINVAL, unix.ENOENT),
		ignore(unix.Unmount(c.work, unix.MNT_DETACH), unix.EINVAL, unix.ENOENT), ignore(os.Remove(c.work),
			os.ErrNotExist))
	return errors.Join(failed...)
}

func ignore(err error, harmless ...error) error {
	if slices.ContainsFunc(harmless, func(h error) bool { return errors.Is(err, h) }) {
		return nil
	}
	return err
}

// endCgroup kills what is left and removes the groups, the deepest first.
func (c *container) endCgroup() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := os.WriteFile(filepath.Join(c.cgroup, "cgroup.kill"), []byte("1"), 0o644); err != nil {
		return err
	}
	return eventually(ctx, 20*time.Millisecond, func() error {
		var dirs []string
		err := filepath.WalkDir(c.cgroup, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			err = errors.Join(err, os.Remove(dir))
		}
		return err
	})
}
