package baselines

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

var began = time.Unix(1_700_000_000, 0).UTC()

func opened(t *testing.T, path string, now func() time.Time) *Store {
	t.Helper()
	s := Open(path, now, func(r boltfile.Report) { t.Errorf("reported %+v", r) })
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func identity(n int) perf.Identity {
	return perf.Identity{Engine: "llamacpp", Contents: fmt.Sprint(n), Mask: []string{"GPU-1"}}
}

func result(rate float64) perf.Result {
	return perf.Result{At: began, One: perf.Figures{Streams: 1, FirstTokenMS: 5, TokensPerS: rate,
		TotalTokensPerS: rate, PromptTokensPerS: 9}}
}

func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.db")
	s := opened(t, path, func() time.Time { return began })
	for _, rate := range []float64{10, 20} {
		if err := s.Put(identity(1), result(rate)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Serves("p/r0", identity(1).Key()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, path, func() time.Time { return began })
	row, ok := s.Last("p/r0")
	if !ok || row.Last.One.TokensPerS != 20 || row.Former == nil || row.Former.One.TokensPerS != 10 {
		t.Errorf("%+v, %v after it was opened again", row, ok)
	}
	if _, ok := s.Row(identity(2).Key()); ok {
		t.Error("there is a row that was never written")
	}
	var none *Store
	if _, ok := none.Row("x"); ok || none.Put(identity(1), result(1)) != nil || none.Close() != nil {
		t.Error("a nil store keeps something")
	}
}

// TestBound: the rows that serve stay, and of the others those that were used last.
func TestBound(t *testing.T) {
	now := began
	s := opened(t, filepath.Join(t.TempDir(), "performance.db"), func() time.Time { return now })
	for n := range Most + 8 {
		now = now.Add(2 * time.Hour)
		if err := s.Put(identity(n), result(1)); err != nil {
			t.Fatal(err)
		}
		if n%64 != 0 {
			continue
		}
		if err := s.Serves("p/r0", identity(0).Key()); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for n := range Most + 8 {
		if _, ok := s.Row(identity(n).Key()); ok {
			kept++
		} else if n == 0 || n > 8 {
			t.Errorf("row %d is gone", n)
		}
	}
	if kept != Most {
		t.Errorf("%d rows are kept, want %d", kept, Most)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.db")
	if err := os.WriteFile(path, []byte("no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	var reports []boltfile.Report
	s := Open(path, time.Now, func(r boltfile.Report) { reports = append(reports, r) })
	defer s.Close()
	if len(reports) != 1 || reports[0].Damage == nil || reports[0].Aside == "" {
		t.Errorf("reported %+v", reports)
	}
	if err := s.Put(identity(1), result(1)); err != nil {
		t.Error(err)
	}
	if _, ok := s.Row(identity(1).Key()); !ok {
		t.Error("nothing is kept in its place")
	}
}

const writerEnv = "BASELINES_TEST_WRITER"

// TestWriter is the program that TestKilledWriter kills.
func TestWriter(t *testing.T) {
	path := os.Getenv(writerEnv)
	if path == "" {
		t.Skip("it is run by TestKilledWriter")
	}
	s := opened(t, path, time.Now)
	for n := 1; ; n++ {
		if err := s.Put(identity(1), result(float64(n))); err != nil {
			t.Fatal(err)
		}
		fmt.Println("wrote", n)
	}
}

// TestKilledWriter: what was acknowledged is there after a SIGKILL.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriter$")
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "wrote %d", &last); err == nil && last == 20 {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	row, ok := opened(t, path, time.Now).Row(identity(1).Key())
	if got := int(row.Last.One.TokensPerS); !ok || last < 20 || got != last && got != last+1 {
		t.Errorf("%d is kept after %d was acknowledged", got, last)
	}
}

// FuzzEntry: what a file may hold is either refused, or a row that could have been measured and
// stays the same when it is written again.
func FuzzEntry(f *testing.F) {
	row := perf.Row{Identity: identity(1), Last: result(3), Former: new(result(2))}
	for _, e := range []entry{{Used: began, Row: &row}, {Used: began, Key: "abc"}, {}} {
		raw, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"row":{"last":{"at":"2026-01-01T00:00:00Z","one":{"streams":1,"tokens_per_s":-1}}}}`))
	f.Fuzz(mutate.Many(func(t *testing.T, raw []byte) {
		for _, bucket := range []string{bucketRows, bucketLast} {
			e, ok := parse(bucket, raw)
			if !ok {
				continue
			}
			if bucket == bucketRows && (!e.Row.Last.Valid() || e.Row.Former != nil && !e.Row.Former.Valid()) {
				t.Fatalf("a row that was never measured: %+v", e.Row)
			}
			again, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := parse(bucket, again); !ok {
				t.Fatalf("%s is refused", again)
			}
		}
	}))
}
