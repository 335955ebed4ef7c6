package sockdiag

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tableLimit bounds what is read of a table, in bytes: 200,000 sockets.
const tableLimit = 32 << 20

// readTable looks the other end up in /proc/net/tcp or tcp6.
func readTable(dir string, local, remote netip.AddrPort) (Owner, error) {
	names := []string{"tcp6"}
	if remote.Addr().Is4() {
		names = []string{"tcp", "tcp6"} // a socket of both families is in the second
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) && name == "tcp6" { // a host without IPv6
			continue
		}
		if err != nil {
			return Owner{}, fmt.Errorf("table of TCP sockets: %w", err)
		}
		o, found, err := findRow(io.LimitReader(f, tableLimit), remote, local)
		f.Close()
		if err != nil {
			return Owner{}, fmt.Errorf("table of TCP sockets: %w", err)
		}
		if found {
			return o, nil
		}
	}
	return Owner{}, ErrNotHere
}

// findRow finds the socket with these addresses in a table.
func findRow(r io.Reader, own, peer netip.AddrPort) (Owner, bool, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
		f := strings.Fields(lines.Text())
		if len(f) < 10 || address(f[1]) != own || address(f[2]) != peer {
			continue
		}
		state, err := strconv.ParseUint(f[3], 16, 8)
		if err != nil || !hasOwner(byte(state)) {
			continue
		}
		uid, err := strconv.ParseUint(f[7], 10, 32)
		if err != nil || f[9] == "0" {
			continue
		}
		return Owner{UID: uint32(uid)}, true, nil
	}
	return Owner{}, false, lines.Err()
}

// address reads "0100007F:23F0": words of 32 bits in the host's byte order, and the port. It
// returns the zero value for another text.
func address(text string) netip.AddrPort {
	words, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	number, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number))
}
