package sockdiag

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// both returns an Asker for each source.
func both(t *testing.T, l net.Listener) map[string]*Asker {
	t.Helper()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	kernel, err := Open(nil, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kernel.Close)
	return map[string]*Asker{"netlink": kernel, "proc": {proc: "/proc/self/net"}}
}

// pair is a connection, accepted.
func pair(t *testing.T, network, addr string) (l net.Listener, ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("this host has no address %s: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
	theirs, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	ours, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return l, ours, theirs
}

func ends(c net.Conn) (local, remote netip.AddrPort) {
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

func TestThePeerIsItsSocketsOwner(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, ours, theirs := pair(t, "tcp", addr)
		for name, a := range both(t, l) {
			t.Run(name+"/"+addr[:3], func(t *testing.T) {
				o, err := a.Peer(ends(ours))
				if err != nil || int(o.UID) != os.Getuid() {
					t.Errorf("%+v %v, want user %d", o, err, os.Getuid())
				}
				if a.Cgroups() != (o.Cgroup != 0) {
					t.Errorf("control group %d", o.Cgroup)
				}
			})
		}
		if err := theirs.(*net.TCPConn).CloseWrite(); err != nil { // as a client does that has sent its last request
			t.Fatal(err)
		}
		for name, a := range both(t, l) {
			if o, err := a.Peer(ends(ours)); err != nil || int(o.UID) != os.Getuid() {
				t.Errorf("%s, shut down for writing: %+v %v", name, o, err)
			}
		}
	}
}

// TestASocketOfBothFamilies: a client may reach 127.0.0.1 from an IPv6 socket.
func TestASocketOfBothFamilies(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("this host has no IPv6: %v", err)
	}
	defer unix.Close(fd)
	mapped := unix.SockaddrInet6{Port: l.Addr().(*net.TCPAddr).Port,
		Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	if err := unix.Connect(fd, &mapped); err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for name, a := range both(t, l) {
		if o, err := a.Peer(ends(ours)); err != nil || int(o.UID) != os.Getuid() {
			t.Errorf("%s: %+v %v", name, o, err)
		}
	}
}

// TestAnotherUsersSocket: the owner is the one that made the socket. Credentials are per thread.
func TestAnotherUsersSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled := make(chan net.Conn, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 61234, 61234, 61234); errno != 0 {
			t.Error(errno)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		dialled <- c
	}()
	theirs := <-dialled
	if theirs == nil {
		t.FailNow()
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for name, a := range both(t, l) {
		if o, err := a.Peer(ends(ours)); err != nil || o.UID != 61234 {
			t.Errorf("%s: %+v %v", name, o, err)
		}
	}
}

// TestAClosedSocketHasNoOwner: the kernel reports user 0 for what is left of it, which is not root.
func TestAClosedSocketHasNoOwner(t *testing.T) {
	l, ours, theirs := pair(t, "tcp", "127.0.0.1:0")
	askers := both(t, l)
	theirs.Close()
	for name, a := range askers {
		if o, err := a.Peer(ends(ours)); !errors.Is(err, ErrNotHere) {
			t.Errorf("%s: %+v %v", name, o, err)
		}
	}
}

// TestAListenerIsNoPeer: where no connection is found, the kernel answers with a listener that has
// the same port.
func TestAListenerIsNoPeer(t *testing.T) {
	l, ours, _ := pair(t, "tcp", "127.0.0.1:0")
	local, _ := ends(ours)
	for name, a := range both(t, l) {
		if o, err := a.Peer(netip.MustParseAddrPort("127.0.0.1:1"), local); !errors.Is(err, ErrNotHere) {
			t.Errorf("%s: %+v %v", name, o, err)
		}
	}
}

func TestAHostThatDoesNotAnswer(t *testing.T) {
	r, w, err := os.Pipe() // no socket at all
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, ours, _ := pair(t, "tcp", "127.0.0.1:0")
	a, err := Open(r, netip.MustParseAddrPort("127.0.0.1:1"))
	if err == nil || a.Cgroups() {
		t.Fatalf("%v, with control groups: %t", err, a.Cgroups())
	}
	if o, err := a.Peer(ends(ours)); err != nil || int(o.UID) != os.Getuid() {
		t.Errorf("by /proc: %+v %v", o, err)
	}
	if _, err := Open(nil, netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Error("a listener that does not exist is found")
	}
}

// FuzzParse: an error means no owner, and the reverse; nothing panics.
func FuzzParse(f *testing.F) {
	own, peer := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:9200")
	good := append(request(7, own, peer), make([]byte, 32)...)
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(mutate.Many(func(t *testing.T, b []byte) {
		o, ours, err := parse(b, 7, own, peer, false)
		if (err != nil || !ours) && o != (Owner{}) {
			t.Errorf("%+v with %v", o, err)
		}
	}))
}

// FuzzTable: any text is a table without rows, or has the row that was added.
func FuzzTable(f *testing.F) {
	const row = "   0: 0100007F:9C40 0100007F:23F0 01 00000000:00000000 00:00000000 00000000  1000        0 1234 1 0 " +
		"20 4\n"
	own, peer := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:9200")
	f.Add("  sl  local_address rem_address   st\n")
	f.Add(strings.Replace(row, " 01 ", " 06 ", 1))
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		before, _, _ := findRow(strings.NewReader(text), own, peer)
		after, found, err := findRow(strings.NewReader(text+"\n"+row), own, peer)
		if err == nil && (!found || after != before && after.UID != 1000) {
			t.Errorf("%+v, before %+v, found %t", after, before, found)
		}
	}))
}
