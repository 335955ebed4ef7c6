package listen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// stateEstablished is TCP_ESTABLISHED, as the tables print it.
const stateEstablished = "01"

// tableLimit bounds what is read of a table, in bytes: some 200,000 sockets.
const tableLimit = 32 << 20

// Crowd returns the user who has the most connections to a TCP port of the loopback, and how many;
// 0 connections: no one has any. It counts the clients' ends, which belong to their users, and not
// those of the program that listens.
func Crowd(port int) (uid, connections int, err error) {
	users := make(map[int]int)
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		err = clients(io.LimitReader(table, tableLimit), port, users)
		table.Close()
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	for user, n := range users {
		if n > connections || n == connections && user < uid {
			uid, connections = user, n
		}
	}
	return uid, connections, nil
}

// clients counts, by user, the connections of one table to a port of the loopback: the remote
// address is in the third column.
func clients(table io.Reader, port int, users map[int]int) error {
	lines := bufio.NewScanner(table)
	lines.Buffer(make([]byte, 4096), 64<<10)
	for header := true; lines.Scan(); header = false {
		f := strings.Fields(lines.Text())
		if header || len(f) < 8 || f[3] != stateEstablished {
			continue
		}
		address, number, _ := strings.Cut(f[2], ":")
		at, ok := parseAddress(address)
		if !ok || !at.Unmap().IsLoopback() {
			continue
		}
		if n, err := strconv.ParseUint(number, 16, 16); err != nil || int(n) != port {
			continue
		}
		if uid, err := strconv.ParseUint(f[7], 10, 32); err == nil {
			users[int(uid)]++
		}
	}
	return lines.Err()
}
