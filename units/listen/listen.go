// Package listen tells who listens on a TCP port of this host, from the kernel's own tables.
//
// It owns the reading of /proc/net/tcp and /proc/net/tcp6 (the kernel's proc_net_tcp document). It must not
// know what the answer is good for.
package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// stateListen is TCP_LISTEN of include/net/tcp_states.h, as the tables print it.
const stateListen = "0A"

// Users returns the user ids of the sockets that listen on a port, on any address, each once. A table that
// the kernel does not have (no IPv6) is an empty one.
func Users(port int) ([]int, error) {
	var users []int
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		users = append(users, usersIn(string(table), port)...)
	}
	return users, nil
}

// usersIn reads one table: local address in the second column, state in the fourth, user id in the eighth.
func usersIn(table string, port int) []int {
	var users []int
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[3] != stateListen || !strings.HasSuffix(f[1], suffix) {
			continue
		}
		if uid, err := strconv.Atoi(f[7]); err == nil {
			users = append(users, uid)
		}
	}
	return users
}
