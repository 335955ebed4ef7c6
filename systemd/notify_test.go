package systemd

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := NewNotifier()

	cases := map[string]struct {
		send func() error
		want string
	}{
		"ready":     {func() error { return n.Ready("3 pools, 2 ready") }, `READY=1\nSTATUS=3 pools, 2 ready`},
		"reloading": {n.Reloading, `RELOADING=1\nMONOTONIC_USEC=[0-9]{6,}`},
		"stopping":  {n.Stopping, `STOPPING=1`},
		"watchdog":  {n.Watchdog, `WATCHDOG=1`},
		// A line break would let a pool's error text send commands of its own.
		"status_is_one_line": {func() error { return n.Status("bad\nMAINPID=1\r\n") }, `STATUS=bad MAINPID=1`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := c.send(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4096)
			if err := listener.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			size, err := listener.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(buf[:size]); !regexp.MustCompile("^" + c.want + "$").MatchString(got) {
				t.Errorf("sent %q, want %q", got, c.want)
			}
		})
	}
}

func TestNotifierWithoutSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := NewNotifier()
	if err := n.Ready("x"); err != nil {
		t.Errorf("Ready = %v, want nil", err)
	}
}

func TestNotifierWithDeadSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := NewNotifier().Watchdog(); err == nil {
		t.Error("a notification without a receiver returned no error")
	}
}

func TestWatchdogInterval(t *testing.T) {
	cases := map[string]struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		"none":            {"", "", 0, false},
		"for_us":          {"30000000", strconv.Itoa(os.Getpid()), 30 * time.Second, false},
		"for_anybody":     {"500000", "", 500 * time.Millisecond, false},
		"for_our_parent":  {"30000000", strconv.Itoa(os.Getppid()), 0, false},
		"not_a_number":    {"soon", "", 0, true},
		"zero_is_no_time": {"0", "", 0, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			got, err := WatchdogInterval()
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("WatchdogInterval() = %v, %v; want %v, error %v", got, err, c.want, c.fails)
			}
		})
	}
}
