package listen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// stateEstablished is TCP_ESTABLISHED, as the tables print it.
const stateEstablished = "01"

// tableLimit bounds what is read of a table, in bytes: some 200,000 sockets.
const tableLimit = 32 << 20

// Clients are the connections to a port of the loopback.
type Clients struct {
	// User has the most connections, and how many; of two with as many, the smaller id.
	User        int
	Connections int
	// Accepted are the inodes, sorted, of the connections of all users that the program at the port
	// has accepted. The kernel gives a connection an inode when it is accepted.
	Accepted []uint64
}

// Crowd returns the connections to a TCP port of the loopback. It counts the clients' ends, which
// belong to their users, and not those of the program that listens.
func Crowd(port int) (Clients, error) {
	found := clients{port: port, users: make(map[int]int)}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Clients{}, err
		}
		err = found.read(io.LimitReader(table, tableLimit))
		table.Close()
		if err != nil {
			return Clients{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return found.most(), nil
}

// clients counts the connections to a port while the tables are read.
type clients struct {
	port     int
	users    map[int]int // the clients' ends, by user
	accepted []uint64
}

// most returns the user with the most of them.
func (c *clients) most() Clients {
	all := Clients{Accepted: slices.Sorted(slices.Values(c.accepted))}
	for user, n := range c.users {
		if n > all.Connections || n == all.Connections && user < all.User {
			all.User, all.Connections = user, n
		}
	}
	return all
}

// read takes one table: the local address is in the second column, the remote one in the third, the
// user and the inode are in the eighth and tenth.
func (c *clients) read(table io.Reader) error {
	lines := bufio.NewScanner(table)
	lines.Buffer(make([]byte, 4096), 64<<10)
	for header := true; lines.Scan(); header = false {
		f := strings.Fields(lines.Text())
		if header || len(f) < 10 || f[3] != stateEstablished {
			continue
		}
		if isLoopback(f[2], c.port) {
			if uid, err := strconv.ParseUint(f[7], 10, 32); err == nil {
				c.users[int(uid)]++
			}
		}
		if inode, err := strconv.ParseUint(f[9], 10, 64); err == nil && inode != 0 && isLoopback(f[1], c.port) {
			c.accepted = append(c.accepted, inode)
		}
	}
	return lines.Err()
}

// isLoopback reports whether an address and port of a table are that port of the loopback.
func isLoopback(text string, port int) bool {
	address, number, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(number, 16, 16)
	if err != nil || int(n) != port {
		return false
	}
	at, ok := parseAddress(address)
	return ok && at.Unmap().IsLoopback()
}
