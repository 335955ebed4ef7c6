package gate

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialUnix connects to the engine's socket as the engine's user, who alone may, and checks that the
// process that listens there is of that user.
func dialUnix(path string, uid int) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	// A full queue of connections must not block the gate.
	limit := unix.NsecToTimeval(int64(askTimeout / time.Nanosecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("setsockopt: %w", err)
	}
	if err := asUser(uid, func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("user of %s: %w", path, err)
	}
	if int(peer.Uid) != uid { // a link of the engine's to another socket
		return nil, fmt.Errorf("a process of user ID %d listens at %s", peer.Uid, path)
	}
	return net.FileConn(file)
}

// asUser runs f with the rights of a user in the file system, on a thread of its own: the kernel
// has them for each thread, and the Go runtime must not run anything else there. The user is the
// process's own, or its saved one.
func asUser(uid int, f func() error) error {
	if uid == syscall.Geteuid() {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		// setfsuid(2) returns the former user, whether it fails or not.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0); errno != 0 {
			result <- fmt.Errorf("setfsuid: %w", errno)
			return
		}
		result <- f()
	}()
	return <-result
}
