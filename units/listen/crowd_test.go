package listen

import (
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestCrowd(t *testing.T) {
	for _, c := range []struct{ network, address string }{
		{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"tcp", "[::]:0"},
	} {
		t.Run(c.network+c.address, func(t *testing.T) {
			l, err := net.Listen(c.network, c.address)
			if err != nil {
				t.Skip("no IPv6 here: ", err)
			}
			defer l.Close()
			port := l.Addr().(*net.TCPAddr).Port
			if found, err := Crowd(port); found.Connections != 0 || err != nil {
				t.Errorf("%+v of a port without connections (%v)", found, err)
			}
			to := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
			if c.network == "tcp6" {
				to.IP = net.IPv6loopback
			}
			for range 5 {
				conn, err := net.DialTCP("tcp", nil, to)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			found, err := Crowd(port)
			if found.User != os.Getuid() || found.Connections != 5 || len(found.Accepted) != 0 || err != nil {
				t.Errorf("%+v (%v), want 5 of user %d, none accepted", found, err, os.Getuid())
			}
			for n := 1; n < 4; n++ {
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if found, err := Crowd(port); len(found.Accepted) != n || err != nil {
					t.Errorf("%+v (%v), want %d accepted", found, err, n)
				}
			}
		})
	}
}

// TestClients: neither the ends of the program that listens, nor what listens, nor what its process
// has closed, nor a host elsewhere count as clients; what waits to be accepted is not accepted.
func TestClients(t *testing.T) {
	found := clients{port: 0x5208, users: make(map[int]int)}
	err := found.read(strings.NewReader(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000 61184        0 21 1
   1: 0100007F:5208 0100007F:C350 01 00000000:00000000 00:00000000 00000000 61184        0 29 1
   2: 0100007F:5208 0100007F:C351 01 00000000:00000000 00:00000000 00000000 61184        0 22 1
   3: 0100007F:5208 0100007F:C355 01 00000000:00000000 00:00000000 00000000 61184        0 0 1
   4: 0100007F:C350 0100007F:5208 01 00000000:00000000 00:00000000 00000000  1000        0 23 1
   5: 0100007F:C351 0100007F:5208 01 00000000:00000000 00:00000000 00000000  1000        0 24 1
   6: 0100007F:C352 0100007F:5208 06 00000000:00000000 00:00000000 00000000     0        0 0 1
   7: 0100007F:C353 0100007F:5209 01 00000000:00000000 00:00000000 00000000  1001        0 25 1
   8: 0A0A0A0A:C354 0A0A0A0B:5208 01 00000000:00000000 00:00000000 00000000  1002        0 26 1
   9: 0A0A0A0B:5208 0A0A0A0A:C354 01 00000000:00000000 00:00000000 00000000 61184        0 27 1
  10: nonsense
`))
	if err != nil || !maps.Equal(found.users, map[int]int{1000: 2}) {
		t.Errorf("%v (%v)", found.users, err)
	}
	if all := found.most(); all.User != 1000 || all.Connections != 2 || !slices.Equal(all.Accepted, []uint64{22, 29}) {
		t.Errorf("%+v", all)
	}
}
