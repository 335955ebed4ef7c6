//go:build machine

package render_test

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryAttack does what only a hostile engine would, of which some returns an output. It reports
// whether it knows the attack.
func tryAttack(what, on string) (out string, known bool, err error) {
	switch what {
	case "setuid":
		uid, err := strconv.Atoi(on)
		if err != nil {
			return "", true, err
		}
		return "", true, syscall.Setuid(uid)
	case "run":
		args := strings.Fields(on)
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		return strings.TrimSpace(string(b)), true, err
	case "space":
		return "", true, space(on)
	case "filesystem":
		var fs unix.Statfs_t
		if err := unix.Statfs(on, &fs); err != nil {
			return "", true, err
		}
		if fs.Type == unix.TMPFS_MAGIC {
			return "tmpfs", true, nil
		}
		return strconv.FormatInt(int64(fs.Type), 16), true, nil
	case "userns":
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		return "", true, cmd.Run()
	case "send":
		return "", true, send(on)
	case "call":
		return "", true, call(on)
	case "family":
		return "", true, family(on)
	case "personality":
		const linux32 = 8
		_, _, errno := syscall.RawSyscall(unix.SYS_PERSONALITY, linux32, 0, 0)
		return "", true, errnoOf(errno)
	case "realtime":
		return "", true, realtime()
	case "hurry":
		return "", true, syscall.Setpriority(syscall.PRIO_PROCESS, 0, -5)
	case "spawn":
		return "", true, spawn(on)
	case "mknod":
		const mem = 1<<8 | 1
		defer syscall.Unlink(on)
		return "", true, syscall.Mknod(on, syscall.S_IFCHR|0o600, mem)
	case "shm_of_host":
		key, err := strconv.Atoi(on)
		if err != nil {
			return "", true, err
		}
		_, _, errno := syscall.RawSyscall(unix.SYS_SHMGET, uintptr(key), 0, 0)
		return "", true, errnoOf(errno)
	case "shmget":
		const private, create = 0, 0o1000
		_, _, errno := syscall.RawSyscall(unix.SYS_SHMGET, private, 4096, create|0o666)
		return "", true, errnoOf(errno)
	}
	return "", false, nil
}

func errnoOf(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// space fails for a file system that holds at most a tenth of the host's memory.
func space(on string) error {
	var fs unix.Statfs_t
	var host unix.Sysinfo_t
	if err := errors.Join(unix.Statfs(on, &fs), unix.Sysinfo(&host)); err != nil {
		return err
	}
	size, most := fs.Blocks*uint64(fs.Bsize), host.Totalram*uint64(host.Unit)/10
	if size <= most+most/10 {
		return fmt.Errorf("%s holds %d bytes, a tenth of the memory is %d", on, size, most)
	}
	return nil
}

// send sends one datagram.
func send(address string) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("prompt"))
	return err
}

// call makes a system call with arguments that it refuses, if it is let through.
func call(number string) error {
	nr, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	const bad = ^uintptr(0)
	_, _, errno := syscall.RawSyscall6(uintptr(nr), bad, bad, bad, bad, bad, bad)
	return errnoOf(errno)
}

// family makes a socket of a family, of whichever type it has.
func family(on string) error {
	number, err := strconv.Atoi(on)
	if err != nil {
		return err
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
		fd, e := unix.Socket(number, kind, 0)
		if e == nil {
			return unix.Close(fd)
		}
		err = e
	}
	return err
}

// realtime asks for a real-time policy for this thread, and gives it back.
func realtime() error {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, attr, 0); err != nil {
		return err
	}
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0)
}

// spawn starts so many processes, and ends them again.
func spawn(on string) error {
	n, err := strconv.Atoi(on)
	if err != nil {
		return err
	}
	for i := range n {
		cmd := exec.Command("/bin/sleep", "60")
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("process %d of %d: %w", i+1, n, err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
	}
	return nil
}
