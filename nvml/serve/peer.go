package serve

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is the process that connected, as reported by the kernel.
type Peer struct {
	PID, UID int
}

// PeerOf reads SO_PEERCRED (unix(7)): the credentials at the time of the connect, which cannot be
// forged.
func PeerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("a %s connection has no credentials", c.LocalAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("credentials of the caller: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, fmt.Errorf("credentials of the caller: %w", err)
	}
	if failed != nil {
		return Peer{}, fmt.Errorf("credentials of the caller: %w", failed)
	}
	return Peer{PID: int(cred.Pid), UID: int(cred.Uid)}, nil
}
