package machine

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// recorder is a test that may fail without failing the real one: for code that is to fail tests.
type recorder struct {
	testing.TB // for what is not recorded

	mu       sync.Mutex
	lines    []string
	failed   bool
	cleanups []func()
}

// record runs code with a recorder, as a test runner would: FailNow ends the code, then clean-up
// runs.
func record(t testing.TB, code func(*recorder)) *recorder {
	r := &recorder{TB: t}
	var done sync.WaitGroup
	done.Go(func() { code(r) }) // FailNow ends the goroutine
	done.Wait()
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return r
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

func (r *recorder) Log(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintln(args...))
}

func (r *recorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) FailNow()                          { r.Fail(); runtime.Goexit() }
func (r *recorder) Logf(format string, args ...any)   { r.Log(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.Log(args...); r.Fail() }
func (r *recorder) Errorf(format string, args ...any) { r.Logf(format, args...); r.Fail() }
func (r *recorder) Fatal(args ...any)                 { r.Log(args...); r.FailNow() }
func (r *recorder) Fatalf(format string, args ...any) { r.Logf(format, args...); r.FailNow() }
func (r *recorder) Skip(args ...any)                  { r.Errorf("skipped: %v", args) }
func (r *recorder) Helper()                           {}
func (r *recorder) Name() string                      { return "Recorded/test" }
func (r *recorder) Context() context.Context          { return r.TB.Context() }
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
