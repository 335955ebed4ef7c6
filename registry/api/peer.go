package api

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer has the credentials of the process that opened a unix connection, at the time of the
// connect.
type peer struct {
	uid    uint32
	gid    uint32
	groups []uint32 // supplementary
	err    error    // the kernel reported no credentials
}

// connectionKey is the context key of a request's connection.
type connectionKey struct{}

// withConnection is http.Server's ConnContext.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	if p, ok := c.(*placed); ok {
		return context.WithValue(ctx, connectionKey{}, p.known)
	}
	return ctx
}

// connectionOf returns the request's connection, an empty one for a request that did not pass
// Serve.
func connectionOf(r *http.Request) *connection {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{uncount: func() {}}
}

func peerOf(c *net.UnixConn) peer {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var p peer
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); p.err != nil {
			return
		}
		p.uid, p.gid = cred.Uid, cred.Gid
		p.groups = peerGroups(fd)
	})
	return peer{p.uid, p.gid, p.groups, errors.Join(p.err, err)}
}

// peerGroups returns the supplementary groups (SO_PEERGROUPS, Linux 4.13; net/core/sock.c), none if
// the kernel does not report them: the caller then has less access, never more.
func peerGroups(fd uintptr) []uint32 {
	list := make([]uint32, 64)
	for range 2 { // the first call returns the length if the list is longer
		size := uint32(len(list) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			return list[:size/4]
		}
		if errno != unix.ERANGE {
			return nil
		}
		list = make([]uint32, size/4)
	}
	return nil
}

// groupLookup is a group's id, if the group exists.
type groupLookup struct {
	gid   uint32
	found bool
}

func lookupGroup(name string) groupLookup {
	g, err := user.LookupGroup(name)
	if err != nil {
		return groupLookup{}
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	return groupLookup{uint32(gid), err == nil}
}

func (p peer) in(g groupLookup) bool {
	return g.found && (p.gid == g.gid || slices.Contains(p.groups, g.gid))
}
