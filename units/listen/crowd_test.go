package listen

import (
	"maps"
	"net"
	"os"
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
			if _, n, err := Crowd(port); n != 0 || err != nil {
				t.Errorf("%d connections to a port without any (%v)", n, err)
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
			if uid, n, err := Crowd(port); uid != os.Getuid() || n != 5 || err != nil {
				t.Errorf("user %d has %d (%v), want user %d with 5", uid, n, err, os.Getuid())
			}
		})
	}
}

// TestClients: neither the ends of the program that listens, nor what listens, nor what its process
// has closed, nor a host elsewhere count.
func TestClients(t *testing.T) {
	users := make(map[int]int)
	err := clients(strings.NewReader(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000 61184        0 21 1
   1: 0100007F:5208 0100007F:C350 01 00000000:00000000 00:00000000 00000000 61184        0 22 1
   2: 0100007F:C350 0100007F:5208 01 00000000:00000000 00:00000000 00000000  1000        0 23 1
   3: 0100007F:C351 0100007F:5208 01 00000000:00000000 00:00000000 00000000  1000        0 24 1
   4: 0100007F:C352 0100007F:5208 06 00000000:00000000 00:00000000 00000000     0        0 0 1
   5: 0100007F:C353 0100007F:5209 01 00000000:00000000 00:00000000 00000000  1001        0 25 1
   6: 0A0A0A0A:C354 0A0A0A0B:5208 01 00000000:00000000 00:00000000 00000000  1002        0 26 1
   7: nonsense
`), 0x5208, users)
	if err != nil || !maps.Equal(users, map[int]int{1000: 2}) {
		t.Errorf("%v (%v)", users, err)
	}
}
