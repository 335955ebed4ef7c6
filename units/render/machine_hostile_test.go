//go:build machine

package render_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// serveUnix listens on a unix socket that every user may connect to, until the test ends.
func serveUnix(t *testing.T, name string) {
	t.Helper()
	shell(t, "mkdir -p '"+filepath.Dir(name)+"'; rm -f '"+name+"'")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go accept(l)
	shell(t, "chmod 666 '"+name+"'")
}

// accept answers connections until the listener is closed.
func accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

// openSockets returns the sockets of the file system that a process may connect to, separated by
// spaces. A connection of the wrong type counts too: the socket is within reach.
func openSockets() (string, error) {
	var found []string
	err := filepath.WalkDir("/", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // shut
		case name == "/proc" || name == "/sys":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		// The directory has the type of what a socket is mounted over.
		if info, err := os.Lstat(name); err == nil && info.Mode()&fs.ModeSocket != 0 && connects(name) {
			found = append(found, name)
		}
		return nil
	})
	slices.Sort(found)
	return strings.Join(found, " "), err
}

func connects(name string) bool {
	for _, network := range []string{"unix", "unixgram", "unixpacket"} {
		c, err := net.Dial(network, name)
		if err == nil {
			c.Close()
			return true
		}
		if errors.Is(err, syscall.EPROTOTYPE) {
			continue
		}
	}
	return false
}

// TestMachineRuntimeDirectory: the engine has an empty /run. No file of another unit is in it, and
// of all sockets on the host the engine reaches the journal's alone. It is so after a daemon-reload
// too, and for an engine whose restart PID 1 decided.
func TestMachineRuntimeDirectory(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	for _, name := range []string{"/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/run/podman/podman.sock",
		"/run/docker.sock", "/run/user/1000/bus", "/run/snapd.socket", "/run/pool-managerd/test.sock", "/run/avahi-daemon/socket",
		"/run/nvidia-persistenced/socket", "/srv/test.sock", "/tmp/test.sock", "/var/tmp/test.sock", "/home/ann/test.sock"} {
		serveUnix(t, name)
	}
	put(t, "/run/lock/full", "", 0o666)
	neighbour := input(with(func(p *pool.Pool) {
		p.ID, p.Env = "neighbour", map[string]string{"SECRET": "of-the-neighbour"}
	}))
	neighbour.Port = 21001
	w.start(t, neighbour)
	r := w.start(t, input())
	check := func(when string) {
		t.Helper()
		const journal = "/run/systemd/journal/dev-log /run/systemd/journal/socket /run/systemd/journal/stdout"
		// /dev/log is a link to the first.
		if got, err := r.try("sockets", ""); err != nil || got != journal {
			t.Errorf("%s: the engine reaches %q, %v; want %q", when, got, err, journal)
		}
		// Some are PID 1's own mount points, and what is inaccessible.
		for dir, known := range map[string]string{"/run": "credentials log pool-engine-tmp pool-managerd systemd user",
			"/run/systemd": "incoming journal", "/run/systemd/journal": "dev-log socket stdout"} {
			got, err := r.try("list", dir)
			if err != nil {
				t.Errorf("%s: %s: %v", when, dir, err)
			}
			for _, name := range strings.Fields(got) {
				if !slices.Contains(strings.Fields(known), name) {
					t.Errorf("%s: %s holds %s", when, dir, name)
				}
			}
		}
		for _, name := range []string{"/run/x", "/run/lock/x", "/run/lock/full", "/run/systemd/x", "/run/systemd/incoming/x",
			"/run/pool-managerd/x"} {
			if _, err := r.try("write", name); err == nil {
				t.Errorf("%s: %s can be written", when, name)
			}
		}
		for _, name := range []string{"/run/systemd/transient", "/run/systemd/units", "/run/log", "/run/pool-managerd",
			"/run/user", "/run/systemd/resolve"} {
			if got, err := r.try("list", name); err == nil {
				t.Errorf("%s: %s holds %q", when, name, got)
			}
		}
	}
	check("first start")
	shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
	check("restart after daemon-reload")
	if out := shell(t, "grep -rl of-the-neighbour /run/systemd/transient"); out == "" {
		t.Error("the neighbour's environment is in no file: the test shows nothing")
	}
}

// TestMachineSharedMemory: the engine's /dev/shm is its own, has a size, and goes with it.
func TestMachineSharedMemory(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	put(t, "/dev/shm/of-the-host", "secret", 0o666)
	const megabyte = 1 << 20
	small := with(func(p *pool.Pool) { p.Sandbox.ShmBytes = 8 * megabyte })
	r := w.start(t, input(small))
	for _, when := range []string{"first start", "restart after daemon-reload"} {
		if got, err := r.try("list", "/dev/shm"); err != nil || got != "" {
			t.Errorf("%s: /dev/shm holds %q, %v", when, got, err)
		}
		if got, err := r.try("size", "/dev/shm"); err != nil || got != strconv.Itoa(8*megabyte) {
			t.Errorf("%s: /dev/shm has %s bytes, %v", when, got, err)
		}
		if _, err := r.try("write", "/dev/shm/x"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if _, err := r.try("fill", "/dev/shm/full"); !errors.Is(err, errTry) ||
			!strings.Contains(err.Error(), "no space left") {
			t.Errorf("%s: /dev/shm takes 64 MiB: %v", when, err)
		}
		shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
	}
	r.stop()
	if got := strings.TrimSpace(shell(t, "ls /dev/shm")); got != "of-the-host" {
		t.Errorf("the host's /dev/shm holds %q", got)
	}
	half := w.start(t, input())
	kib, err := strconv.ParseInt(strings.TrimSpace(shell(t, "awk '/MemTotal/ {print $2}' /proc/meminfo")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	whole := kib * 1024
	got, err := half.try("size", "/dev/shm")
	if size, _ := strconv.ParseInt(got, 10, 64); err != nil || size < whole*4/10 || size > whole*6/10 {
		t.Errorf("the default is %s of %d bytes, %v", got, whole, err)
	}
}

// TestMachineNeighbours: two engines are two users. One does not signal the other, and does not
// read or write its files. A neighbour with another side of the same replica is another user too.
func TestMachineNeighbours(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	at := func(port int, change change) running {
		in := input(change)
		in.Port = port
		return w.start(t, in)
	}
	r := at(21000, func(*render.Input) {})
	others := map[string]running{
		"pool":    at(21001, with(func(p *pool.Pool) { p.ID = "neighbour" })),
		"replica": at(21002, func(in *render.Input) { in.Replica = 1 }),
		"side":    at(21003, func(in *render.Input) { in.Side = 1 }),
	}
	own := r.report().UID
	for name, other := range others {
		if uid := other.report().UID; uid == own {
			t.Errorf("another %s runs as the same user %d", name, uid)
		}
		status, err := w.client.Unit(t.Context(), other.unit.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.try("signal", strconv.Itoa(status.MainPID)); err == nil {
			t.Errorf("the engine may signal that of another %s", name)
		}
		dir := "/var/lib/pool-engine/" + strings.TrimSuffix(strings.TrimPrefix(other.unit.Name, "pool-engine@"),
			".service")
		put(t, strings.Replace(dir, "/var/lib/", "/var/lib/private/", 1)+"/secret", "secret", 0o644)
		for _, name := range []string{dir, strings.Replace(dir, "/var/lib/", "/var/lib/private/", 1)} {
			if got, err := r.try("list", name); err == nil {
				t.Errorf("the engine lists %s: %q", name, got)
			}
		}
	}
}

// TestMachineUnnamedUsersAreShared is why units have User=: without it, PID 1 runs all instances of
// a unit name as one user.
func TestMachineUnnamedUsersAreShared(t *testing.T) {
	enter(t)
	// Type=exec: the process has its user by then.
	const script = `for i in a b
do systemd-run --quiet --unit=shared@$i.service -p Type=exec -p DynamicUser=yes sleep 60; done
for i in a b; do stat -c %u /proc/$(systemctl show --value -p MainPID shared@$i.service); done | sort -u
systemctl stop shared@a.service shared@b.service`
	if users := strings.Fields(shell(t, script)); len(users) != 1 {
		t.Errorf("two instances run as the users %v: User= is no longer needed", users)
	}
}
