package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
)

func netlinkSocket(t *testing.T, protocol int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "api")
	t.Cleanup(func() { f.Close() })
	return f
}

// TestTheNetlinkSocketIsFound among all that PID 1 passes.
func TestTheNetlinkSocketIsFound(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	diag, route := netlinkSocket(t, unix.NETLINK_SOCK_DIAG), netlinkSocket(t, unix.NETLINK_ROUTE)
	if got := netlinkOf([]*os.File{r, route, diag}); got != diag {
		t.Errorf("got %v", got)
	}
	if got := netlinkOf([]*os.File{r, route}); got != nil {
		t.Errorf("got %v where there is none", got.Name())
	}
}

func TestPeers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ul, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if p := newPeers([]net.Listener{ul}, nil, logger); p != nil {
		t.Errorf("without a TCP listener: %+v", p)
	}
	p := newPeers([]net.Listener{ul, l}, []*os.File{netlinkSocket(t, unix.NETLINK_SOCK_DIAG)}, logger)
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	o, err := p.Peer(ours.LocalAddr().(*net.TCPAddr).AddrPort(), ours.RemoteAddr().(*net.TCPAddr).AddrPort())
	if err != nil || int(o.UID) != os.Getuid() || o.Cgroup == 0 {
		t.Errorf("%+v %v", o, err)
	}
	if engine, err := p.Engine(o); err != nil || engine {
		t.Errorf("this process is an engine: %t %v", engine, err)
	}
	if log.Len() != 0 {
		t.Errorf("logged: %s", &log)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	l.Close()
	// The listener is gone: the kernel finds none, as where it does not answer.
	if p := newPeers([]net.Listener{l}, nil, logger); p == nil || !strings.Contains(log.String(), "control groups") {
		t.Errorf("%v, logged %s", p, &log)
	}
	r.Close()
}

func TestEngineSockets(t *testing.T) {
	root := t.TempDir()
	id := func(dir string) uint64 {
		dir = filepath.Join(root, "pool.slice", dir)
		var st syscall.Stat_t
		if err := errors.Join(os.MkdirAll(dir, 0o755), syscall.Stat(dir, &st)); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	const fetcher = 990
	p := peers{engines: cgroups.NewMembers(root, ourSlices()...), fetcher: fetcher}
	for name, c := range map[string]struct {
		owner  sockdiag.Owner
		engine bool
	}{
		"by_its_control_group":               {sockdiag.Owner{Cgroup: id("pool-engines.slice/pool-engine@a.r0.service")}, true},
		"a_download":                         {sockdiag.Owner{UID: fetcher, Cgroup: id("pool-fetch.slice/x.service")}, true},
		"a_download_by_its_user":             {sockdiag.Owner{UID: fetcher}, true},
		"beside_the_slices":                  {sockdiag.Owner{UID: 1000, Cgroup: id("pool-other.slice")}, false},
		"a_dynamic_user_of_another_service":  {sockdiag.Owner{UID: 61190, Cgroup: 1}, false},
		"where_only_the_user_is_known":       {sockdiag.Owner{UID: 61190}, true},
		"a_person_where_only_that_is_known":  {sockdiag.Owner{UID: 1000}, false},
		"root_where_only_the_user_is_known":  {sockdiag.Owner{}, false},
		"the_last_dynamic_user":              {sockdiag.Owner{UID: dynamicHigh}, true},
		"nobody_is_not_one_of_dynamic_users": {sockdiag.Owner{UID: 65534}, false},
	} {
		if engine, err := p.Engine(c.owner); engine != c.engine || err != nil {
			t.Errorf("%s: %t %v", name, engine, err)
		}
	}
}
