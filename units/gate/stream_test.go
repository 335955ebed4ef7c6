package gate

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// logger starts a process that logs to a stream socket as a service does, writes a line, and lives
// on.
func logger(t *testing.T, stderr *os.File) (pidfd int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo first >&2; exec sleep 60")
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pidfd) })
	return pidfd
}

func TestLineInTheEnginesOwnStream(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "stdout")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	journal, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in := bufio.NewReader(journal)
	next := func() string { line, _ := in.ReadString('\n'); return line }

	pidfd := logger(t, file)
	if got := next(); got != "first\n" {
		t.Fatalf("the process wrote %q", got)
	}
	stream := journalStream(pidfd, socket)
	if stream < 0 {
		t.Skip("this host forbids pidfd_getfd(2); the gate then goes by its own line")
	}
	if !sendLine(stream, "second") || next() != "second\n" {
		t.Error("the line did not arrive")
	}
	if other := journalStream(pidfd, socket+".other"); other >= 0 {
		t.Error("a connection to another socket is taken for the journal's")
	}
	// A journal that does not read: the line is given up, and the engine's descriptor does not
	// hang.
	for full := []byte(strings.Repeat("x", 4096)); ; {
		if _, err := unix.SendmsgN(stream, full, nil, nil, unix.MSG_DONTWAIT); err != nil {
			break
		}
	}
	if sendLine(stream, "third") {
		t.Error("a line was sent to a stream that is full")
	}
	journal.Close()
	if sendLine(stream, "fourth") {
		t.Error("a line was sent to a stream that is closed")
	}
	unix.Close(stream)
}

func TestNoStream(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if stream := journalStream(logger(t, file), journalSocket); stream >= 0 {
		t.Error("a file is taken for the journal's stream")
	}
	if sendLine(-1, "x") {
		t.Error("a line was sent to no stream")
	}
}
