// Package listen finds the users that listen on a TCP port of the loopback, and the addresses and
// unix sockets that a user listens on, in the kernel's tables.
//
// It owns the reading of /proc/net/tcp and /proc/net/tcp6 (the kernel's proc_net_tcp document), and
// of the list of unix sockets. It must not know what the result is used for.
package listen

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// stateListen is TCP_LISTEN of include/net/tcp_states.h, as the tables print it.
const stateListen = "0A"

// Users returns the user ids of the sockets that accept connections to 127.0.0.1 on a port, each
// once: those that listen on that address or on all addresses. Listeners on other addresses (such
// as 127.0.0.2) do not count. A table that the kernel does not have (no IPv6) counts as empty.
//
// IPv6 sockets count only if there is no IPv4 socket: both cannot accept IPv4 on one port, so the
// IPv6 one must be IPV6_V6ONLY then (ipv6(7)), which the tables do not show.
func Users(port int) ([]int, error) {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		users, err := usersIn(table, port)
		table.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(users) > 0 {
			slices.Sort(users)
			return slices.Compact(users), nil
		}
	}
	return nil, nil
}

// Of returns the addresses that a user's sockets listen on, each once.
func Of(uid int) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = listeners(table, func(address string, port, user int) {
			if at, ok := parseAddress(address); ok && user == uid {
				found = append(found, netip.AddrPortFrom(at, uint16(port)))
			}
		})
		table.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found), nil
}

// parseAddress reads an address as the tables print it: 32-bit words in the machine's byte order.
func parseAddress(text string) (netip.Addr, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw)%4 != 0 {
		return netip.Addr{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	return netip.AddrFromSlice(raw)
}

// acceptors are the local addresses that receive connections to 127.0.0.1. The tables print an
// address as hexadecimal 32-bit words in the machine's byte order, so both orders are listed; an
// IPv6 socket accepts IPv4 on the unspecified or a mapped address.
var acceptors = []string{
	"0100007F", "7F000001", "00000000",
	"00000000000000000000000000000000",
	"0000000000000000FFFF00000100007F", "00000000000000000000FFFF7F000001",
	"0000000000000000FFFF000000000000", "00000000000000000000FFFF00000000",
}

// usersIn returns the users of one table.
func usersIn(table io.Reader, port int) ([]int, error) {
	var users []int
	err := listeners(table, func(address string, n, uid int) {
		if n == port && slices.Contains(acceptors, address) {
			users = append(users, uid)
		}
	})
	return users, err
}

// listeners reads one table: local address in the second column, state in the fourth, user id in
// the eighth. The kernel lists listening sockets before all others, so the rest of the table is not
// read.
func listeners(table io.Reader, each func(address string, port, uid int)) error {
	lines := bufio.NewScanner(table)
	lines.Buffer(make([]byte, 4096), 64<<10)
	for header := true; lines.Scan(); header = false {
		f := strings.Fields(lines.Text())
		if header || len(f) < 8 {
			continue
		}
		if f[3] != stateListen {
			break
		}
		address, number, _ := strings.Cut(f[1], ":")
		port, err := strconv.ParseUint(number, 16, 16)
		if err != nil {
			continue
		}
		if uid, err := strconv.Atoi(f[7]); err == nil {
			each(address, int(port), uid)
		}
	}
	return lines.Err()
}
