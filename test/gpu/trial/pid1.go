package trial

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PID1 is the first process of the container, in namespaces of its own: it mounts what a system
// has, moves to the cgroup, and becomes systemd. It returns only if it fails.
func PID1(root, cgroup string) error {
	runtime.LockOSThread() // namespaces belong to the thread that becomes systemd
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(0)), 0o644); err != nil {
		return fmt.Errorf("move to the container's cgroup: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("a cgroup namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := mountSystem(root); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("gputrial")); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	const systemd = "/usr/lib/systemd/systemd"
	return unix.Exec(systemd, []string{systemd, "--log-target=journal-or-kmsg"},
		[]string{"container=gputrial", "PATH=/usr/sbin:/usr/bin"})
}

// mountSystem mounts the kernel's file systems below root.
func mountSystem(root string) error {
	for _, m := range []struct {
		what, kind, at string
		flags          uintptr
		data           string
	}{
		{root, "", "", unix.MS_BIND | unix.MS_REC, ""}, // pivot_root(2) wants a mount of this namespace
		{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, ""},
		{"sysfs", "sysfs", "sys", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV | unix.MS_RDONLY, ""},
		{"cgroup2", "cgroup2", "sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, ""},
		{"tmpfs", "tmpfs", "run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "tmpfs", "tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "tmpfs", "dev", unix.MS_NOSUID, "mode=0755"},
	} {
		at := filepath.Join(root, m.at)
		if err := ignore(os.Mkdir(at, 0o755), os.ErrExist); err != nil && m.kind != "cgroup2" {
			return err
		}
		if err := unix.Mount(m.what, at, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s at /%s: %w", m.kind, m.at, err)
		}
	}
	return errors.Join(makeDev(filepath.Join(root, "dev")), protectSysctls(root), makeJournal(root))
}

// makeJournal makes the journal's directory, which the group systemd-journal may read: so the
// manager reads the engines' logs without a capability.
func makeJournal(root string) error {
	groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut("\n"+string(groups), "\nsystemd-journal:x:")
	number, _, _ := strings.Cut(rest, ":")
	gid, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("the number of the group systemd-journal: %w", err)
	}
	dir := filepath.Join(root, "run/log/journal", machineID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := errors.Join(os.Chown(d, 0, gid), os.Chmod(d, 0o755|os.ModeSetgid)); err != nil {
			return err
		}
	}
	return nil
}

// protectSysctls makes /proc/sys read-only: those of the whole host are in it.
func protectSysctls(root string) error {
	sys := filepath.Join(root, "proc/sys")
	if err := unix.Mount(sys, sys, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", sys, "",
		unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "")
}

// makeDev makes the device nodes: the harmless ones, and NVIDIA's as the host has them.
func makeDev(dev string) error {
	for name, number := range map[string][2]uint32{"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1,
		8}, "urandom": {1, 9}, "tty": {5, 0}} {
		if err := node(filepath.Join(dev, name), 0o666, unix.Mkdev(number[0], number[1])); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0",
		"stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC,
		"newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV,
		"mode=1777"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return copyNodes("/dev", dev)
}

// copyNodes makes nodes with the numbers and modes of the host's NVIDIA nodes.
func copyNodes(from, to string) error {
	found, err := filepath.Glob(from + "/nvidia*")
	caps, capsErr := filepath.Glob(from + "/nvidia-caps/*")
	for _, path := range append(found, caps...) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFCHR {
			continue
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := node(target, st.Mode&0o7777, st.Rdev); err != nil {
			return err
		}
		if err := os.Chown(target, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return errors.Join(err, capsErr)
}

func node(path string, mode uint32, number uint64) error {
	if err := unix.Mknod(path, unix.S_IFCHR|mode, int(number)); err != nil {
		return fmt.Errorf("make the device node %s: %w", path, err)
	}
	return os.Chmod(path, os.FileMode(mode)) // whatever the umask is
}
