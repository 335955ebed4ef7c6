package listen

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000 61184        0 1234 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1236 1 0000000000000000 100 0 0 10 0
   2: 0200007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1237 1 0000000000000000 100 0 0 10 0
   3: 0A0A0A0A:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 1238 1 0000000000000000 100 0 0 10 0
   4: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 1239 1 0000000000000000 100 0 0 10 0
   5: short line
   6: 0100007F:5208 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1235 1 0000000000000000 20 4 30 10 -1
   7: 0100007F:C350 0100007F:5208 01 00000000:00000000 00:00000000 00000000     7        0 1235 1 0000000000000000 20 4 30 10 -1
`

const table6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:5208 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 1 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 2 1 0 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   106        0 3 1 0 100 0 0 10 0
`

func TestUsersIn(t *testing.T) {
	cases := []struct {
		name  string
		table string
		port  int
		want  []int
	}{
		{"on_the_address_itself_and_no_other", table, 0x5208, []int{61184}},
		{"on_all_addresses", table, 22, []int{0}},
		{"connections_do_not_listen", table, 0xC350, nil},
		{"nobody", table, 80, nil},
		{"ipv6_on_all_addresses", table6, 0x5208, []int{104}},
		{"ipv6_loopback_takes_no_ipv4", table6, 0x1F90, nil},
		{"ipv4_mapped", table6, 80, []int{106}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, err := usersIn(strings.NewReader(c.table), c.port); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("usersIn(%d) = %v, %v, want %v", c.port, got, err, c.want)
			}
		})
	}
}

func TestUsersOfARealListener(t *testing.T) {
	self := []int{os.Getuid()}
	for _, c := range []struct {
		name    string
		network string
		address string
		want    []int
	}{
		{"loopback", "tcp4", "127.0.0.1:0", self},
		{"all_of_ipv4", "tcp4", "0.0.0.0:0", self},
		{"all_of_both", "tcp", "[::]:0", self},
		{"another_loopback_address", "tcp4", "127.0.0.2:0", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen(c.network, c.address)
			if err != nil {
				t.Fatal(err)
			}
			port := l.Addr().(*net.TCPAddr).Port
			if got, err := Users(port); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("Users(%d) = %v, %v, want %v", port, got, err, c.want)
			}
			l.Close()
			if got, err := Users(port); err != nil || len(got) != 0 {
				t.Errorf("Users(%d) after close = %v, %v, want none", port, got, err)
			}
		})
	}
}

// TestManyConnections: the table is read no further than the sockets that listen.
func TestManyConnections(t *testing.T) {
	head, _, _ := strings.Cut(table, "   6:")
	r := strings.NewReader(head + strings.Repeat(fmt.Sprintf("   9: 0100007F:5208 0100007F:C350 01 %s\n",
		strings.Repeat("0 ", 12)), 100_000))
	all := r.Len()
	if _, err := usersIn(r, 1); err != nil || r.Len() < all-8192 {
		t.Errorf("%d of %d bytes were read, %v", all-r.Len(), all, err)
	}
}

func FuzzUsersIn(f *testing.F) {
	f.Add(table, 0x5208)
	f.Add("", 0)
	f.Fuzz(mutate.Many(func(t *testing.T, s string, port int) {
		users, _ := usersIn(strings.NewReader(s), port)
		if len(users) > strings.Count(s, stateListen) {
			t.Errorf("%d users in %q", len(users), s)
		}
		connected := clients{port: port, users: make(map[int]int)}
		_ = connected.read(strings.NewReader(s))
		if n := len(connected.accepted); n > strings.Count(s, stateEstablished) {
			t.Errorf("%d accepted connections in %q", n, s)
		}
		for uid, n := range connected.users {
			if uid < 0 || n > strings.Count(s, stateEstablished) {
				t.Errorf("%d connections of user %d in %q", n, uid, s)
			}
		}
	}))
}

func TestListeners(t *testing.T) {
	var got []string
	for _, text := range []string{table, table6} {
		err := listeners(strings.NewReader(text), func(address string, port, uid int) {
			if at, ok := parseAddress(address); ok {
				got = append(got, fmt.Sprintf("%s %d", netip.AddrPortFrom(at, uint16(port)), uid))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"127.0.0.1:21000 61184", "0.0.0.0:22 0", "127.0.0.2:21000 1000", "10.10.10.10:21000 1001",
		"127.0.0.1:8080 1002", "[::]:21000 104", "[::1]:8080 105", "[::ffff:127.0.0.1]:80 106"}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 && !slices.Equal(got, want) { // as the tables above are written
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"", "01", "0100007", "0100007G"} {
		if at, ok := parseAddress(bad); ok {
			t.Errorf("parseAddress(%q) = %s", bad, at)
		}
	}
}

func TestOfARealListener(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if got, err := Of(os.Getuid()); err != nil || !slices.Contains(got, at) {
		t.Errorf("Of = %v, %v, want %s among them", got, err, at)
	}
	if got, err := Of(os.Getuid() + 1); err != nil || slices.Contains(got, at) {
		t.Errorf("another user listens on %v, %v", got, err)
	}
}
