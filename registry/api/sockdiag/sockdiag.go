// Package sockdiag asks the kernel which user, and which control group, owns the other end of a TCP
// connection on this host. TCP itself reports no caller, but where both ends are on one host, both
// sockets are known to one kernel.
//
// It owns the two sources, NETLINK_SOCK_DIAG (sock_diag(7)) and /proc/net/tcp (proc(5)), and which
// of their answers count. It must not know what the answer is used for.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Owner is who has a socket.
type Owner struct {
	UID    uint32
	Cgroup uint64 // id of the cgroup v2 in which it was created; 0: the source does not report it
}

// ErrNotHere means that no process of this host has the other end: it is on another host, or it is
// closed already.
var ErrNotHere = errors.New("no process of this host has the other end of the connection")

// Asker looks sockets up. Its methods may be called from any goroutine.
type Asker struct {
	mu      sync.Mutex
	netlink *os.File // nil: /proc is read
	seq     uint32
	proc    string // the directory with the files tcp and tcp6
}

// answerTime is the timeout of one question to the kernel, which answers within microseconds.
const answerTime = 250 * time.Millisecond

// Open returns an Asker. It takes over netlink, a socket of the protocol NETLINK_SOCK_DIAG that PID
// 1 passed; without one it opens one. listening is the address of a listening socket of this host:
// asking for it shows whether the kernel answers. If it does not, the error is why, and the Asker
// reads /proc/net/tcp, which has users and no control groups.
func Open(netlink *os.File, listening netip.AddrPort) (*Asker, error) {
	a := &Asker{netlink: netlink, seq: uint32(time.Now().UnixNano()), proc: "/proc/self/net"}
	err := a.open()
	if err == nil {
		_, err = a.ask(netip.AddrPortFrom(unspecified(listening.Addr()), 0), listening, true)
	}
	if err != nil {
		a.Close()
		a.netlink = nil
		return a, fmt.Errorf("the kernel does not answer over NETLINK_SOCK_DIAG: %w", err)
	}
	return a, nil
}

func (a *Asker) open() error {
	if a.netlink == nil {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		a.netlink = os.NewFile(uintptr(fd), "sock_diag")
	}
	wait := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(int(a.netlink.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("setsockopt: %w", err)
	}
	return nil
}

// Close closes the netlink socket.
func (a *Asker) Close() {
	if a.netlink != nil {
		a.netlink.Close()
	}
}

// Cgroups reports whether answers have the control group.
func (a *Asker) Cgroups() bool { return a.netlink != nil }

// Peer returns who has the other end of a connection, given both addresses of our end.
func (a *Asker) Peer(local, remote netip.AddrPort) (Owner, error) {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if a.netlink != nil {
		return a.ask(local, remote, false)
	}
	return readTable(a.proc, local, remote)
}

// unspecified is the address of no host, of the family of like.
func unspecified(like netip.Addr) netip.Addr {
	if like.Unmap().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// Sizes and places of linux/netlink.h and linux/inet_diag.h, in bytes.
const (
	headerSize  = 16 // struct nlmsghdr
	requestSize = 56 // struct inet_diag_req_v2
	messageSize = 72 // struct inet_diag_msg
	cgroupID    = 21 // INET_DIAG_CGROUP_ID, Linux 5.7
	sockDiag    = 20 // SOCK_DIAG_BY_FAMILY
)

// States of a socket (net/tcp_states.h). One that is shut down for writing still has its owner.
const (
	established = 1
	finWait1    = 4
	finWait2    = 5
	closeWait   = 8
	listening   = 10
)

// ask sends one question about the socket that has remote as its own address and local as its
// peer's, and reads the answer.
func (a *Asker) ask(local, remote netip.AddrPort, listener bool) (Owner, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	fd := int(a.netlink.Fd())
	if err := unix.Sendto(fd, request(a.seq, remote, local), 0,
		&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Owner{}, fmt.Errorf("send: %w", err)
	}
	buffer := make([]byte, 8192)
	for range 16 { // answers to a former daemon, which had the same socket, may be left in it
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Owner{}, fmt.Errorf("receive: %w", err)
		}
		if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue
		}
		owner, ours, err := parse(buffer[:n], a.seq, remote, local, listener)
		if ours {
			return owner, err
		}
	}
	return Owner{}, errors.New("no answer among 16 messages")
}

// request is the question for one socket.
func request(seq uint32, own, peer netip.AddrPort) []byte {
	native, wire := binary.NativeEndian, binary.BigEndian
	b := make([]byte, headerSize+requestSize)
	native.PutUint32(b[0:], uint32(len(b)))
	native.PutUint16(b[4:], sockDiag)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], seq)
	r := b[headerSize:]
	r[0], r[1] = unix.AF_INET, unix.IPPROTO_TCP
	if own.Addr().Is6() {
		r[0] = unix.AF_INET6
	}
	native.PutUint32(r[4:], ^uint32(0)) // every state
	id := r[8:]
	wire.PutUint16(id[0:], own.Port())
	wire.PutUint16(id[2:], peer.Port())
	copy(id[4:20], own.Addr().AsSlice())
	copy(id[20:36], peer.Addr().AsSlice())
	native.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// parse reads one message; ours is false if it answers another question.
func parse(b []byte, seq uint32, own, peer netip.AddrPort, listener bool) (o Owner, ours bool, err error) {
	native := binary.NativeEndian
	if len(b) < headerSize {
		return Owner{}, false, nil
	}
	length, kind := int(native.Uint32(b[0:])), native.Uint16(b[4:])
	if native.Uint32(b[8:]) != seq || length < headerSize || length > len(b) {
		return Owner{}, false, nil
	}
	body := b[headerSize:length]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		errno := unix.Errno(-int32(native.Uint32(body)))
		if errno == unix.ENOENT {
			return Owner{}, true, ErrNotHere
		}
		return Owner{}, true, errno
	case kind != sockDiag || len(body) < messageSize:
		return Owner{}, true, fmt.Errorf("a message of type %d with %d bytes", kind, length)
	case !about(body, own, peer, listener):
		return Owner{}, true, ErrNotHere
	}
	if native.Uint32(body[68:]) == 0 { // no inode: the process has closed it
		return Owner{}, true, ErrNotHere
	}
	return Owner{UID: native.Uint32(body[64:]), Cgroup: cgroupOf(body[messageSize:])}, true, nil
}

// about reports whether a message is about that very socket. Where the kernel finds no connection,
// it looks for a listener with the same port.
func about(body []byte, own, peer netip.AddrPort, listener bool) bool {
	id, wire, size := body[4:], binary.BigEndian, 4
	if body[0] == unix.AF_INET6 { // also an IPv6 socket with an IPv4 peer
		size = 16
	}
	ownAddr, _ := netip.AddrFromSlice(id[4 : 4+size])
	peerAddr, _ := netip.AddrFromSlice(id[20 : 20+size])
	ownAddr, peerAddr = ownAddr.Unmap(), peerAddr.Unmap()
	if wire.Uint16(id[0:]) != own.Port() || wire.Uint16(id[2:]) != peer.Port() {
		return false
	}
	if listener { // on this address, or on every one
		return body[1] == listening && (ownAddr == own.Addr() || ownAddr.IsUnspecified())
	}
	return hasOwner(body[1]) && ownAddr == own.Addr() && peerAddr == peer.Addr()
}

// hasOwner reports whether a socket in that state may belong to a process. The kernel reports user
// 0 for what is left of a connection that its process has closed.
func hasOwner(state byte) bool {
	return state == established || state == finWait1 || state == finWait2 || state == closeWait
}

// cgroupOf returns the attribute INET_DIAG_CGROUP_ID, 0 where there is none.
func cgroupOf(attributes []byte) uint64 {
	native := binary.NativeEndian
	for len(attributes) >= 4 {
		length, kind := int(native.Uint16(attributes)), native.Uint16(attributes[2:])
		if length < 4 || length > len(attributes) {
			return 0
		}
		if kind == cgroupID && length == 12 {
			return native.Uint64(attributes[4:])
		}
		attributes = attributes[min((length+3)&^3, len(attributes)):]
	}
	return 0
}
