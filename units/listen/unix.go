package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Constants and sizes of linux/netlink.h, linux/sock_diag.h and linux/unix_diag.h, in bytes.
const (
	headerSize  = 16 // struct nlmsghdr
	requestSize = 24 // struct unix_diag_req
	messageSize = 16 // struct unix_diag_msg

	sockDiagByFamily = 20
	showName         = 0x01 // UDIAG_SHOW_NAME
	showUID          = 0x40 // UDIAG_SHOW_UID, Linux 5.3
	nameAttribute    = 0    // UNIX_DIAG_NAME
	uidAttribute     = 7    // UNIX_DIAG_UID
	tcpListen        = 10   // TCP_LISTEN of include/net/tcp_states.h, which unix sockets use too
)

// The bounds of one question to the kernel, which answers within microseconds and with 32 KiB at a
// time.
const (
	answerMilliseconds = 250
	mostMessages       = 512
)

// UnixOf returns the names of the unix sockets that a user listens on, each once: a path as the
// process gave it, or "@" and the name of an abstract one. /proc/net/unix has no users, so the
// kernel is asked by NETLINK_SOCK_DIAG (sock_diag(7)).
func UnixOf(uid int) ([]string, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(answerMilliseconds * 1e6)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("setsockopt: %w", err)
	}
	if err := unix.Sendto(fd, unixRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	var found []string
	buffer := make([]byte, 64<<10)
	for range mostMessages {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		names, done, err := unixNames(buffer[:n], uid)
		if err != nil {
			return nil, err
		}
		found = append(found, names...)
		if done {
			slices.Sort(found)
			return slices.Compact(found), nil
		}
	}
	return nil, fmt.Errorf("no end of the list of unix sockets among %d messages", mostMessages)
}

// unixRequest asks for all unix sockets that listen, with their names and users.
func unixRequest() []byte {
	native := binary.NativeEndian
	b := make([]byte, headerSize+requestSize)
	native.PutUint32(b[0:], uint32(len(b)))
	native.PutUint16(b[4:], sockDiagByFamily)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[headerSize:]
	r[0] = unix.AF_UNIX
	native.PutUint32(r[4:], 1<<tcpListen)
	native.PutUint32(r[12:], showName|showUID)
	return b
}

// unixNames reads messages of the kernel: the names of a user's sockets, and whether the list ends
// with them.
func unixNames(b []byte, uid int) (names []string, done bool, err error) {
	native := binary.NativeEndian
	for len(b) >= headerSize {
		length, kind := int(native.Uint32(b)), native.Uint16(b[4:])
		if length < headerSize || length > len(b) {
			return nil, false, fmt.Errorf("a message of %d bytes in %d", length, len(b))
		}
		body := b[headerSize:length]
		switch {
		case kind == unix.NLMSG_DONE:
			return names, true, nil
		case kind == unix.NLMSG_ERROR && len(body) >= 4:
			return nil, false, fmt.Errorf("list of unix sockets: %w", unix.Errno(-int32(native.Uint32(body))))
		case kind == sockDiagByFamily && len(body) >= messageSize:
			if name, owner := unixSocket(body[messageSize:]); owner == uid && name != "" {
				names = append(names, name)
			}
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return names, false, nil
}

// unixSocket reads the attributes of one socket: its name, "" for none, and its user, -1 where an
// older kernel does not have it.
func unixSocket(attributes []byte) (name string, uid int) {
	native := binary.NativeEndian
	uid = -1
	for len(attributes) >= 4 {
		length, kind := int(native.Uint16(attributes)), native.Uint16(attributes[2:])
		if length < 4 || length > len(attributes) {
			break
		}
		switch value := attributes[4:length]; {
		case kind == nameAttribute && len(value) > 0:
			name = strings.TrimRight(string(value), "\x00")
			if rest, abstract := strings.CutPrefix(name, "\x00"); abstract {
				name = "@" + rest
			}
		case kind == uidAttribute && len(value) == 4:
			uid = int(native.Uint32(value))
		}
		attributes = attributes[min((length+3)&^3, len(attributes)):]
	}
	return name, uid
}
