package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const tree = "testdata/tree"

func ptr[T any](v T) *T { return &v }

func TestReadUsage(t *testing.T) {
	got, err := ReadUsage(tree, "/pool.slice/pool-engines.slice/full.service")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID == 0 {
		t.Error("the cgroup has no identity")
	}
	want := Usage{
		ID:       got.ID,
		Memory:   &Memory{CurrentBytes: 5242880000, PeakBytes: ptr[uint64](6442450944), OOMKills: ptr[uint64](2)},
		Pressure: &Pressure{Full: &Stall{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

// TestAbsentIsNotZero: a controller that PID 1 cannot hand out leaves nil and a reason.
func TestAbsentIsNotZero(t *testing.T) {
	got, err := ReadUsage(tree, "bare.service")
	if err != nil {
		t.Fatal(err)
	}
	if got.Memory != nil || got.Pressure == nil {
		t.Errorf("usage of a cgroup without controllers: %+v", got)
	}
	if len(got.Absent) != 1 || got.Absent[0].File != "memory.current" ||
		!strings.Contains(got.Absent[0].Why, "not enabled") {
		t.Errorf("absent: %v", got.Absent)
	}
}

func TestReadUsageErrors(t *testing.T) {
	if _, err := ReadUsage(tree, "/gone.service"); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("a cgroup that is gone: %v", err)
	}
	var parse *ParseError
	if _, err := ReadUsage(tree, "/broken.service"); !errors.As(err, &parse) || parse.File != "memory.pressure" {
		t.Errorf("a broken file: %v", err)
	}
	if _, err := ReadUsage(tree+"/none", "/"); err == nil || errors.Is(err, ErrNoCgroup) {
		t.Errorf("no tree at all: %v", err)
	}
}

// TestReadUsageStaysInTheTree: the name comes from outside and must not lead out.
func TestReadUsageStaysInTheTree(t *testing.T) {
	root := t.TempDir()
	inside := filepath.Join(root, "tree")
	outside := filepath.Join(root, "outside")
	for _, dir := range []string{inside, outside} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "memory.current"), []byte("7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../outside", "/../outside", "a/../../outside", "link"} {
		if u, err := ReadUsage(inside, name); err == nil && u.Memory != nil {
			t.Errorf("%s led to %d bytes", name, u.Memory.CurrentBytes)
		}
	}
}

func FuzzPressure(f *testing.F) {
	f.Add("some avg10=0.42 avg60=0.94 avg300=2.71 total=33883045\nfull avg10=0.10 avg60=0.61 avg300=2.14 " +
		"total=28714216\n")
	f.Add("some avg10=0 avg60=0 avg300=0 total=18446744073709551616\n")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		p, err := parsePressure("memory.pressure", text)
		if (err == nil) != (p != nil) {
			t.Fatalf("%v and %v", p, err)
		}
		if p != nil && (p.Some.Avg10 < 0 || p.Full != nil && p.Full.Avg300 < 0) {
			t.Errorf("negative pressure out of %q", text)
		}
	}))
}
