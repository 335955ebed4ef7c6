package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMain plays the activated program in a child process: descriptors 3 and up must be its own.
func TestMain(m *testing.M) {
	if mode := os.Getenv("ACTIVATED_CHILD"); mode != "" {
		activatedChild(mode, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func activatedChild(mode string, out io.Writer) {
	pid := os.Getpid()
	if mode == "for_parent" {
		pid = os.Getppid()
	}
	os.Setenv("LISTEN_PID", strconv.Itoa(pid))
	a, err := TakeActivation()
	if err != nil {
		var bad *ActivationError
		fmt.Fprintf(out, "error activation=%v none=%v: %v\n", errors.As(err, &bad), errors.Is(err, ErrNotActivated),
			err)
		return
	}
	for _, name := range []string{"api", "tcp"} {
		for _, l := range a.Listeners[name] {
			fmt.Fprintf(out, "listener %s %s\n", name, l.Addr().Network())
		}
	}
	for _, f := range a.Others {
		fmt.Fprintf(out, "other %s\n", f.Name())
	}
	_, err = TakeActivation()
	fmt.Fprintf(out, "again none=%v env=%q\n", errors.Is(err, ErrNotActivated), os.Getenv("LISTEN_FDS"))
	a.Close()
}

// activated runs the child with files as descriptors 3, 4, … and returns its report.
func activated(t *testing.T, mode, fds, names string, files ...*os.File) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ACTIVATED_CHILD="+mode, "LISTEN_FDS="+fds, "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return string(out)
}

func TestTakeActivation(t *testing.T) {
	dir := t.TempDir()
	unixListener, err := net.Listen("unix", filepath.Join(dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	tcpListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcpListener.Close()
	datagram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "dgram"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	stored, err := os.Create(filepath.Join(dir, "stored"))
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	file := func(c interface{ File() (*os.File, error) }) *os.File {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	api, tcp, dgram := file(unixListener.(*net.UnixListener)), file(tcpListener.(*net.TCPListener)), file(datagram)
	const again = "again none=true env=\"\"\n"

	t.Run("listeners_by_name", func(t *testing.T) {
		got := activated(t, "for_us", "3", "api:tcp:api", api, tcp, api)
		if want := "listener api unix\nlistener api unix\nlistener tcp tcp\n" + again; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("others_are_kept_apart", func(t *testing.T) {
		got := activated(t, "for_us", "4", "store:api:dgram:", stored, api, dgram, stored)
		if want := "listener api unix\nother store\nother dgram\nother LISTEN_FD_6\n" + again; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("for_another_process", func(t *testing.T) {
		if got := activated(t, "for_parent", "1", "api", api); !strings.HasPrefix(got,
			"error activation=false none=true") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("number_is_no_number", func(t *testing.T) {
		got := activated(t, "for_us", "many", "api", api)
		if !strings.HasPrefix(got, "error activation=true none=false") ||
			!strings.Contains(got, `LISTEN_FDS is "many"`) {
			t.Errorf("got %q", got)
		}
	})
}
