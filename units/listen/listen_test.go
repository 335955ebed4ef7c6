package listen

import (
	"net"
	"os"
	"slices"
	"testing"
)

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000 61184        0 1234 1 0000000000000000 100 0 0 10 0
   1: 0100007F:5208 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1235 1 0000000000000000 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1236 1 0000000000000000 100 0 0 10 0
   3: short line
`

func TestUsersIn(t *testing.T) {
	cases := []struct {
		name string
		port int
		want []int
	}{
		{"listener_and_not_its_connection", 0x5208, []int{61184}},
		{"any_address_counts", 22, []int{0}},
		{"nobody", 80, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := usersIn(table, c.port); !slices.Equal(got, c.want) {
				t.Errorf("usersIn(%d) = %v, want %v", c.port, got, c.want)
			}
		})
	}
}

func TestUsersOfARealListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	got, err := Users(port)
	if err != nil || !slices.Equal(got, []int{os.Getuid()}) {
		t.Errorf("Users(%d) = %v, %v, want this user %d", port, got, err, os.Getuid())
	}
	l.Close()
	if got, err := Users(port); err != nil || len(got) != 0 {
		t.Errorf("Users(%d) after close = %v, %v, want none", port, got, err)
	}
}

func FuzzUsersIn(f *testing.F) {
	f.Add(table, 0x5208)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, port int) { usersIn(s, port) })
}
