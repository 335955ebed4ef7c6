package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// listening returns the path of a unix socket that listens until the test ends.
func listening(t *testing.T, path string) string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return path
}

// TestAdministratorsSocketIsFirst: a client connects to the socket of administrators where it can,
// and to the one of every user where there is none, no one listens, or it may not.
func TestAdministratorsSocketIsFirst(t *testing.T) {
	dir := t.TempDir()
	admin, api := listening(t, filepath.Join(dir, "admin.sock")), listening(t, filepath.Join(dir, "api.sock"))
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	forbidden := filepath.Join(dir, "forbidden.sock")
	if err := errors.Join(os.WriteFile(forbidden, nil, 0), os.Chmod(forbidden, 0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		sockets []string
		want    string
	}{
		{"both", []string{admin, api}, admin},
		{"a_former_version", []string{filepath.Join(dir, "none.sock"), api}, api},
		{"its_unit_is_stopped", []string{dead, api}, api},
		{"may_not_connect", []string{forbidden, api}, api},
		{"another_socket_was_named", []string{api}, api},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := dialFirst(t.Context(), c.sockets)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := conn.RemoteAddr().String(); got != c.want {
				t.Errorf("connected to %s, want %s", got, c.want)
			}
		})
	}
	t.Run("neither", func(t *testing.T) {
		_, err := dialFirst(t.Context(), []string{dead, filepath.Join(dir, "none.sock")})
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, want the error of the socket of every user", err)
		}
	})
	t.Run("the_time_is_over", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := dialFirst(ctx, []string{full(t, dir), api}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the end of the time", err)
		}
	})
}

// full returns the path of a socket with no room for another caller.
func full(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "full.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return path
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}
