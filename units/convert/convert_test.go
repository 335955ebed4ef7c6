package convert_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/convert"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

var update = flag.Bool("update", false, "write the golden files")

// A case of testdata is one file: its sources, each behind a line with its name, then what they
// become.
const (
	sourceMark = "==> "
	resultMark = "==> result <==\n"
)

// TestConvert shows each translation as a person reads it: sources, pool files, notes.
func TestConvert(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d cases, %v; want at least 20", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, _, _ := strings.Cut(string(data), resultMark)
			r, err := convert.Convert(sources(t, input)...)
			checkAll(t, r)
			golden.File(t, file, input+resultMark+show(r, err), *update)
		})
	}
}

func sources(t *testing.T, input string) (list []convert.Source) {
	t.Helper()
	for line := range strings.Lines(input) {
		if name, is := strings.CutPrefix(line, sourceMark); is {
			list = append(list, convert.Source{Name: strings.TrimSuffix(name, " <==\n")})
			continue
		}
		if len(list) == 0 {
			t.Fatal("the case does not begin with the name of a source")
		}
		last := &list[len(list)-1]
		last.Data = append(last.Data, line...)
	}
	return list
}

func show(r convert.Result, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
		return b.String()
	}
	fmt.Fprintf(&b, "format: %s\n", r.Format)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, p := range r.Pools {
		fmt.Fprintf(&b, "--- %s.toml\n%s", p.ID, p.Text)
	}
	return b.String()
}

// checkAll holds the pool files together to what "poolctl check" refuses.
func checkAll(t *testing.T, r convert.Result) {
	t.Helper()
	dir := t.TempDir()
	for _, p := range r.Pools {
		if err := os.WriteFile(filepath.Join(dir, p.ID+".toml"), []byte(p.Text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := config.DefaultHost()
	h.RequireGPU = false
	h.Policy.AllowedImages = []string{"docker.io", "example.org", "ghcr.io"} // which the file's comment asks for
	set := config.LoadPools(dir, h)
	for _, problem := range append(set.Problems, set.Denied...) {
		t.Errorf("%v", problem)
	}
	if len(set.Pools) != len(r.Pools) {
		t.Errorf("%d pools of %d files", len(set.Pools), len(r.Pools))
	}
}

// pools reads a pool file.
func pools(t *testing.T, text string) pool.Pool {
	t.Helper()
	p, problems := config.ParsePool("a.toml", []byte(text), config.DefaultHost())
	if p == nil {
		t.Fatal(problems)
	}
	return *p
}
