package machine

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootTimeout bounds the boot of a test's machine, the build of its root file system included.
const bootTimeout = 15 * time.Minute

// journalLines is how much of the journal a failed test prints.
const journalLines = 150

// JournalDirEnv names the environment variable with a directory where failed tests leave whole
// journals.
const JournalDirEnv = "POOL_MACHINE_JOURNALS"

// Start boots a machine for a test, and ends it with the test. When the test has failed, the end of
// the journal goes to its log, and the whole journal to $POOL_MACHINE_JOURNALS, if that is set.
func Start(t testing.TB, cfg Config) *Machine {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = func(line string) { t.Log(line) }
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	m, err := Boot(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			m.logJournal(t)
		}
		if err := m.Close(); err != nil {
			t.Errorf("the machine left something behind: %v", err)
		}
	})
	return m
}

// logJournal writes a machine's journal to the log of its failed test.
func (m *Machine) logJournal(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	journal, err := m.Journal(ctx, 0)
	if err != nil {
		t.Logf("no journal of the machine: %v\nits console:\n%s", err, lastLines(m.Console(), journalLines))
		return
	}
	t.Logf("end of the machine's journal:\n%s", lastLines(journal, journalLines))
	if dir := os.Getenv(JournalDirEnv); dir != "" {
		name := regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(t.Name(), "_") + ".journal"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(journal), 0o644); err != nil {
			t.Log(err)
		}
	}
}

// MustRun runs a program in the machine and returns its standard output without the space around
// it; any other exit code than 0 fails the test at once.
func (m *Machine) MustRun(t testing.TB, args ...string) string {
	t.Helper()
	r := m.Run(t.Context(), args...)
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(r.Stdout)
}

// MustShell is MustRun for a script, see Shell.
func (m *Machine) MustShell(t testing.TB, script string) string {
	t.Helper()
	r := m.Shell(t.Context(), script)
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(r.Stdout)
}

// Require fails the test at once when the machine lacks something that the test needs. It never
// skips: a test that passes without its controller would prove nothing.
func (m *Machine) Require(t testing.TB, needs ...Requirement) {
	t.Helper()
	if err := m.Check(t.Context(), needs...); err != nil {
		t.Fatal(err)
	}
}

// BuildProgram compiles the Go package, an import path or a path as go build takes it, and returns
// the path of the static program. It is for the machine's C library as much as for any other.
func BuildProgram(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	return goTool(t, append([]string{"build"}, flags...), pkg)
}

// BuildTest compiles the tests of a Go package into a static program for RunTestBinary.
func BuildTest(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	return goTool(t, append([]string{"test", "-c"}, flags...), pkg)
}

// goTool runs the go command with an output file in a directory of the test.
func goTool(t testing.TB, args []string, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	if name := filepath.Base(pkg); name != "." && name != ".." {
		out = filepath.Join(filepath.Dir(out), name)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "-o", out, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, text)
	}
	return out
}

// RunTestBinary copies a compiled Go test binary into the machine and runs it there as root, with
// -test.v and args. Its output goes to the test's log line by line, and its failure fails the test.
// A binary that runs no test at all, or only skips, fails too.
func (m *Machine) RunTestBinary(ctx context.Context, t testing.TB, binary string, args ...string) {
	t.Helper()
	guest := "/run/test-binaries/" + filepath.Base(binary)
	if err := m.CopyIn(ctx, binary, guest); err != nil {
		t.Fatal(err)
	}
	out := &lineLog{t: t}
	r := m.RunCommand(ctx, Command{
		Args: append([]string{guest, "-test.v"}, args...), Dir: "/run/test-binaries", Stdout: out, Stderr: out,
	})
	out.flush()
	if r.Err != nil || r.ExitCode != 0 {
		t.Fatalf("%s in the machine: exit code %d, error %v", filepath.Base(binary), r.ExitCode, r.Err)
	}
	if !out.passed {
		t.Fatalf("%s in the machine: no test passed in it", filepath.Base(binary))
	}
}

// lineLog is a writer that logs whole lines, and records whether a test of a binary has passed.
// Both outputs of a program may write to it at once.
type lineLog struct {
	t      testing.TB
	mu     sync.Mutex
	rest   []byte
	passed bool
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.rest = rest
		l.log(string(line))
	}
}

// flush logs an unfinished line.
func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.log(string(l.rest))
		l.rest = nil
	}
}

func (l *lineLog) log(line string) {
	if strings.HasPrefix(strings.TrimSpace(line), "--- PASS: ") {
		l.passed = true
	}
	l.t.Log(line)
}
