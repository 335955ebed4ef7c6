package gate

import (
	"bufio"
	"net"
	"net/netip"
	"testing"
)

// speaks listens on the loopback, writes that to each connection when a line has come, and closes
// it; a server that writes nothing keeps it open.
func speaks(t *testing.T, answer string, keep bool) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				_, _ = in.ReadString('\n') // what a client sends does not matter
				_, _ = conn.Write([]byte(answer))
				for keep {
					if _, err := in.ReadByte(); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestSocketsOfItsOwn: at a verdict, a port that answers as a server does is where an engine
// listens, whatever its number; the ports of PyTorch's store (which closes), gloo (which waits) and
// ZeroMQ (which greets) are not. Before a verdict no port is asked, and the kernel's are left out.
func TestSocketsOfItsOwn(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		keep, serves bool
	}{
		{"http", "HTTP/1.1 404 Not Found\r\n\r\n", false, true},
		{"tls_alert", "\x15\x03\x01\x00\x02\x02\x16", false, true},
		{"grpc", "\x00\x00\x06\x04\x00\x00\x00\x00\x00", true, true},
		{"closes", "", false, false},
		{"waits", "", true, false},
		{"greets", "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at := speaks(t, c.answer, c.keep)
			e := endpoint{scheme: "http", host: "127.0.0.1", port: 1, path: "/"}
			if got := e.forClients([]netip.AddrPort{at}, true); (len(got) == 1) != c.serves {
				t.Errorf("at a verdict: %v", got)
			}
			if got := e.forClients([]netip.AddrPort{at}, false); len(got) != 0 {
				t.Errorf("before a verdict: %v", got)
			}
			if e.port = int(at.Port()); !c.serves || len(e.forClients([]netip.AddrPort{at}, false)) == 1 {
				return
			}
			t.Error("its own port on another address is left out")
		})
	}
	mute := speaks(t, "", true)
	if !serves(mute, true) || serves(mute, false) {
		t.Error("a port that a person chose counts where it does not answer, and no other")
	}
	own := netip.MustParseAddrPort("192.0.2.1:8000")
	if got := (endpoint{}).forClients([]netip.AddrPort{own}, true); len(got) != 1 {
		t.Errorf("an address that cannot be asked: %v", got)
	}
}

// TestSocketsByName: unix sockets that libraries make for the processes of one engine.
func TestSocketsByName(t *testing.T) {
	for name, own := range map[string]bool{
		"/tmp/pymp-0w1x_y2z/listener-a1b2c3d4":           true,
		"/tmp/torch-shm-dir-Ab12Cd/manager.sock":         true,
		"/tmp/5f6d7c1e-8a34-4f3b-9d20-0c1b2a3d4e5f":      true,
		"/tmp/tmpab12cd_3/ipc.sock":                      true,
		"@cuda-uvmfd-4026531836-22":                      true,
		"@/tmp/nccl-socket-2-81985529216486895":          true,
		"/tmp/vllm.sock":                                 false,
		"/tmp/llama-8001.sock":                           false,
		"/var/lib/pool-engine/a.r0/its-own.sock":         false,
		"/run/pool-engine/a.r0/engine.sock":              false,
		"@engine":                                        false,
		"/tmp/TestNamesOfSockets1234567/001/engine.sock": false,
	} {
		if madeUp().MatchString(name) != own {
			t.Errorf("%s is for its own processes: %t, want %t", name, !own, own)
		}
	}
}

// TestNamesOfSockets: names of unix sockets, which an engine chooses, are quoted.
func TestNamesOfSockets(t *testing.T) {
	path := serveUnix(t)
	for _, c := range []struct {
		tcp  []netip.AddrPort
		unix []string
		want string
	}{
		{nil, []string{path}, `the unix socket "` + path + `"`},
		{nil, []string{"@a\n\x1b[31mb"}, `the unix socket "@a\n\x1b[31mb"`},
		{[]netip.AddrPort{netip.MustParseAddrPort("[::1]:8000")}, []string{"/a", "/b", "/c", "/d"},
			`[::1]:8000, the unix socket "/a", the unix socket "/b", the unix socket "/c", …`},
	} {
		if got := places(c.tcp, c.unix); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
