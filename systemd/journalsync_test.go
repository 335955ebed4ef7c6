package systemd

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSyncJournal: the call asks journald once and waits for its answer; without one it ends.
func TestSyncJournal(t *testing.T) {
	cases := []struct{ name, answer, says string }{
		{"done", "{\"parameters\":{}}\x00", ""},
		{"refused", "{\"error\":\"org.varlink.service.PermissionDenied\"}\x00", "PermissionDenied"},
		{"closed", "{", "EOF"},
		{"too_long", strings.Repeat("x", 5000), "buffer full"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan string, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				text, _ := bufio.NewReader(conn).ReadString(0)
				asked <- text
				_, _ = conn.Write([]byte(c.answer))
				_ = conn.Close()
			}()
			defer l.Close()
			err = syncJournal(t.Context(), socket)
			if got := <-asked; got != "{\"method\":\"io.systemd.Journal.Synchronize\"}\x00" {
				t.Errorf("asked %q", got)
			}
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	t.Run("no_journald", func(t *testing.T) {
		if err := syncJournal(t.Context(), "/nowhere/s"); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no_answer", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket) // which accepts by itself
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := syncJournal(ctx, socket); err == nil {
			t.Error("no error")
		}
	})
}
