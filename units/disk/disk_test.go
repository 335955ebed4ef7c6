package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// TestBound: what a pool asks for, else a quarter of the file system, and at most 32 GiB.
func TestBound(t *testing.T) {
	for _, c := range []struct{ asked, size, want uint64 }{
		{1 << 20, 1 << 40, 1 << 20}, {Off, 1 << 40, Off}, {0, 1 << 40, 32 << 30}, {0, 40 << 30, 10 << 30}, {0, 0, 32 << 30},
	} {
		if got := Bound(c.asked, c.size); got != c.want {
			t.Errorf("Bound(%d, %d) is %d, want %d", c.asked, c.size, got, c.want)
		}
	}
}

// TestEvaluate: a little over is reported; twice as much is too much, and on a full disk a little.
func TestEvaluate(t *testing.T) {
	const bound = 1000
	for _, c := range []struct {
		name          string
		used          Usage
		bound         uint64
		full, stopped bool
		want          Verdict
	}{
		{"within", Usage{Bytes: 1000}, bound, false, false, Within},
		{"within_on_a_full_disk", Usage{Bytes: 1000}, bound, true, false, Within},
		{"one_byte_over", Usage{Bytes: 1001}, bound, false, false, Over},
		{"one_byte_over_on_a_full_disk", Usage{Bytes: 1001}, bound, true, false, FarOver},
		{"twice", Usage{Bytes: 2000}, bound, false, false, Over},
		{"more_than_twice", Usage{Bytes: 2002}, bound, false, false, FarOver},
		{"stopped_and_not_within", Usage{Bytes: 1001}, bound, false, true, FarOver},
		{"stopped_and_within", Usage{Bytes: 1000}, bound, false, true, Within},
		{"countless", Usage{Bytes: 1, More: true}, bound, false, false, Over},
		{"no_bound", Usage{Bytes: math.MaxUint64, More: true}, Off, true, true, Within},
	} {
		if got := Evaluate(c.used, c.bound, c.full, c.stopped); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestScarce: a twentieth of the bytes or of the files, where files are counted.
func TestScarce(t *testing.T) {
	for name, c := range map[string]struct {
		s    Space
		want bool
	}{
		"plenty":          {Space{Bytes: 100, Free: 5, Files: 100, FreeFiles: 5}, false},
		"few_bytes":       {Space{Bytes: 100, Free: 4, Files: 100, FreeFiles: 50}, true},
		"few_files":       {Space{Bytes: 100, Free: 50, Files: 100, FreeFiles: 4}, true},
		"files_uncounted": {Space{Bytes: 100, Free: 50}, false},
	} {
		if got := c.s.Scarce(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if s, err := SpaceOf("/"); err != nil || s.Bytes == 0 || s.Free > s.Bytes {
		t.Errorf("/: %+v, %v", s, err)
	}
	if _, err := SpaceOf("/no/such"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("what does not exist: %v", err)
	}
}

// walk returns what Walk counts, by name.
func walk(t *testing.T, root string) map[string]Usage {
	t.Helper()
	var out strings.Builder
	if err := Walk(t.Context(), root, func(name string, u Usage) error { return Print(&out, name, u) }); err != nil {
		t.Fatal(err)
	}
	of, err := Parse(out.String() + Done + "\n")
	if err != nil {
		t.Fatal(err)
	}
	return of
}

func write(t *testing.T, size int, names ...string) {
	t.Helper()
	name := filepath.Join(names...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWalk counts what is on the disk, whatever an engine made there.
func TestWalk(t *testing.T) {
	root := t.TempDir()
	a, outside := filepath.Join(root, "a.r0"), filepath.Join(t.TempDir(), "of-the-host")
	write(t, 1<<20, a, "deep", "er", "file")
	write(t, 1<<20, a, "other name\n\x01")
	write(t, 8<<20, outside)
	write(t, 1<<20, root, "no-directory")
	for name, target := range map[string]string{"link": outside, "linked": filepath.Dir(outside), "up": "..",
		"dangling": "/no/such"} {
		if err := os.Symlink(target, filepath.Join(a, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := os.Link(filepath.Join(a, "deep", "er", "file"), filepath.Join(a, fmt.Sprint("hard", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(a, "holes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(a, "holes"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(a, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	of := walk(t, root)
	if u := of["a.r0"]; len(of) != 1 || u.Bytes < 2<<20 || u.Bytes > 2<<20+128<<10 || u.More {
		t.Errorf("counted %+v", of)
	}
	if of := walk(t, filepath.Join(root, "none")); len(of) != 0 {
		t.Errorf("where there is no engine: %+v", of)
	}
}

// TestWalkIsBounded: neither depth nor number keep it busy for ever, and what was not counted is
// reported.
func TestWalkIsBounded(t *testing.T) {
	t.Run("deep", func(t *testing.T) {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "a.r0", strings.Repeat("x/", MostDepth+2)), 0o755); err != nil {
			t.Fatal(err)
		}
		if u := walk(t, root)["a.r0"]; !u.More {
			t.Errorf("counted %+v", u)
		}
	})
	t.Run("many", func(t *testing.T) {
		root := t.TempDir()
		for i := range 50 {
			write(t, 0, root, "a.r0", fmt.Sprint(i))
		}
		tr := tree{seen: make(map[[2]uint64]bool)}
		dir, err := os.Open(filepath.Join(root, "a.r0"))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		tr.device, tr.used.Files = st.Dev, MostFiles-10
		if err := tr.list(t.Context(), dir, 0); err != nil || !tr.used.More || tr.used.Files > MostFiles+1 {
			t.Errorf("counted %+v, %v", tr.used, err)
		}
	})
	t.Run("ended", func(t *testing.T) {
		root := t.TempDir()
		write(t, 0, root, "a.r0", "x")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := Walk(ctx, root, func(string, Usage) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestParse(t *testing.T) {
	of, err := Parse("a.r0 10 2 false\nb 5 1 true\na.r0 1 1 true\ndone\n")
	if want := (Usage{11, 3, true}); err != nil || len(of) != 2 || of["a.r0"] != want {
		t.Errorf("%+v, %v", of, err)
	}
	for _, bad := range []string{"", "a.r0 10 2 false\n", "a.r0 10 2\ndone\n", "a.r0 -1 2 false\ndone\n",
		"pool-gate: no\ndone\n", "done"} {
		if of, err := Parse(bad); err == nil {
			t.Errorf("%q: %+v", bad, of)
		}
	}
}

// FuzzParse: an error means no result, and the reverse.
func FuzzParse(f *testing.F) {
	f.Add("a.r0 10 2 false\ndone\n")
	f.Add("a.r0 18446744073709551615 2 true\na.r0 1 1 true\ndone\n")
	f.Add("\ndone\n")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		of, err := Parse(text)
		if (of == nil) != (err != nil) {
			t.Errorf("%v, %v", of, err)
		}
		for name := range of {
			if name == "" || strings.ContainsAny(name, " \n") {
				t.Errorf("name %q", name)
			}
		}
	}))
}

// lockedLog is a log that a test reads while it is written.
type lockedLog struct {
	mu *sync.Mutex
	w  *strings.Builder
}

func (l lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// TestWatch: it counts every five minutes, and soon where it matters; not without engines, and not
// all the time.
func TestWatch(t *testing.T) {
	const size = 1000 << 30
	type state struct {
		mu       sync.Mutex // held by the test but for the time that passes
		w        *Watch
		free     uint64
		counted  int
		reports  []Report
		engines  bool
		urgent   bool
		spaceErr error
		countErr error
		log      strings.Builder
	}
	run := func(name string, test func(t *testing.T, s *state)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &state{free: size / 2, engines: true}
				s.w = &Watch{
					Engines: func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.engines },
					Urgent:  func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.urgent },
					Space: func() ([]Space, error) {
						s.mu.Lock()
						defer s.mu.Unlock()
						return []Space{{Bytes: size, Free: s.free}, {Bytes: size, Free: size / 2}}, s.spaceErr
					},
					Count: func(context.Context) (map[string]Usage, error) {
						s.mu.Lock()
						defer s.mu.Unlock()
						s.counted++
						return map[string]Usage{"a.r0": {Bytes: 5}}, s.countErr
					},
					Deliver: func(r Report) { s.mu.Lock(); defer s.mu.Unlock(); s.reports = append(s.reports, r) },
					Log:     slog.New(slog.NewTextHandler(lockedLog{&s.mu, &s.log}, nil)),
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); s.w.Run(ctx) }()
				synctest.Wait()
				s.mu.Lock()
				test(t, s)
				s.mu.Unlock()
				cancel()
				<-done
			})
		})
	}
	pass := func(s *state, d time.Duration) {
		s.mu.Unlock()
		time.Sleep(d)
		synctest.Wait()
		s.mu.Lock()
	}
	want := func(t *testing.T, s *state, n int) {
		t.Helper()
		if s.counted != n {
			t.Errorf("counted %d times, want %d", s.counted, n)
		}
	}
	run("every_five_minutes", func(t *testing.T, s *state) {
		want(t, s, 1)
		pass(s, 4*time.Minute)
		want(t, s, 1)
		pass(s, time.Hour)
		want(t, s, 13)
		if r := s.reports[0]; r.Of["a.r0"].Bytes != 5 || r.Space.Bytes != size || r.Full {
			t.Errorf("report %+v", r)
		}
	})
	run("where_space_is_lost", func(t *testing.T, s *state) {
		pass(s, time.Minute)
		want(t, s, 1)
		s.free -= size/lossShare + 1
		pass(s, lookEvery)
		want(t, s, 2)
		pass(s, time.Minute) // not lost again
		want(t, s, 2)
		s.free -= size / 2 / lossShare
		pass(s, time.Minute)
		want(t, s, 2)
	})
	run("where_little_is_left", func(t *testing.T, s *state) {
		s.free = size / 25
		pass(s, countAtMost)
		want(t, s, 2)
		if r := s.reports[1]; !r.Full {
			t.Errorf("report %+v", r)
		}
		pass(s, time.Minute)
		want(t, s, 2)
		s.free -= size/scarceLossShare + 1
		pass(s, lookEvery)
		want(t, s, 3)
	})
	run("while_one_is_over", func(t *testing.T, s *state) {
		s.urgent = true
		pass(s, 5*time.Minute-time.Second)
		want(t, s, 10)
	})
	run("without_engines", func(t *testing.T, s *state) {
		s.engines = false
		pass(s, time.Hour)
		want(t, s, 1)
	})
	run("a_failure_is_logged_once", func(t *testing.T, s *state) {
		s.countErr = errors.New("no unit")
		pass(s, time.Hour)
		if n := strings.Count(s.log.String(), "no unit"); n != 1 || len(s.reports) != 1 {
			t.Errorf("%d lines, %d reports:\n%s", n, len(s.reports), &s.log)
		}
		s.countErr, s.spaceErr = nil, errors.New("no file system")
		pass(s, time.Minute)
		if n := strings.Count(s.log.String(), "no file system"); n != 1 {
			t.Errorf("%d lines:\n%s", n, &s.log)
		}
		s.spaceErr = nil
		pass(s, 10*time.Minute)
		if len(s.reports) < 2 {
			t.Error("it did not go on")
		}
	})
}
