package machine

import (
	"net"
	"path/filepath"
	"testing"
)

func TestNotifySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	n, err := listenNotify(path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(message string) {
		t.Helper()
		if _, err := conn.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	running := make(chan struct{})

	t.Run("other_words_are_not_ready", func(t *testing.T) {
		for _, message := range []string{"STATUS=READY=1 soon", "READY=0", "NOT_READY=1", "READY=11", ""} {
			n.take(message)
		}
		if got := n.boots(); got != 0 {
			t.Errorf("ready %d times", got)
		}
	})
	t.Run("ready_in_a_longer_message_counts_once_a_boot", func(t *testing.T) {
		send("READY=1\nSTATUS=Startup finished\nX_SYSTEMD_UNIT_ACTIVE=multi-user.target")
		if err := n.waitReady(t.Context(), 1, running); err != nil {
			t.Error(err)
		}
		send("READY=1")
		if err := n.waitReady(t.Context(), 2, running); err != nil || n.boots() != 2 {
			t.Error(n.boots(), err)
		}
	})
	t.Run("end_of_the_machine_ends_the_waiting", func(t *testing.T) {
		ended := make(chan struct{})
		close(ended)
		if err := n.waitReady(t.Context(), 3, ended); err == nil {
			t.Error("no error")
		}
	})
}

func TestLineLogFindsPassedTests(t *testing.T) {
	for name, c := range map[string]struct {
		output string
		passed bool
	}{
		"passed":             {"=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", true},
		"cut_anywhere":       {"--- PA", false},
		"only_skipped":       {"--- SKIP: TestA (0.00s)\nPASS\n", false},
		"no_test_at_all":     {"testing: warning: no tests to run\nPASS\n", false},
		"without_a_line_end": {"--- PASS: TestA (0.00s)", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t, func(r *recorder) {
				l := &lineLog{t: r}
				for _, b := range []byte(c.output) {
					_, _ = l.Write([]byte{b})
				}
				l.flush()
				if l.passed != c.passed {
					t.Errorf("passed is %v", l.passed)
				}
			})
			if r.Failed() {
				t.Error(r.text())
			}
		})
	}
}
