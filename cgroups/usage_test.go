package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const tree = "testdata/tree"

func ptr[T any](v T) *T { return &v }

func TestReadUsage(t *testing.T) {
	got, err := ReadUsage(tree, "/pool.slice/pool-engines.slice/full.service")
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{
		Memory: &Memory{CurrentBytes: 5242880000, PeakBytes: ptr[uint64](6442450944),
			OOMKills: ptr[uint64](2), OOMGroupKills: ptr[uint64](1), HighEvents: ptr[uint64](12)},
		CPU: &CPU{UsageUSec: 581080826, UserUSec: 375039095, SystemUSec: 206041731,
			Throttled: ptr[uint64](4), ThrottledUSec: ptr[uint64](250000)},
		IO:    &IO{ReadBytes: 1049600, WriteBytes: 4096, ReadOps: 12, WriteOps: 1},
		Tasks: ptr[uint64](42),
		Pressure: Pressures{
			CPU:    &Pressure{Some: Stall{26.58, 13.78, 8.85, 97579660}, Full: &Stall{}},
			Memory: &Pressure{Full: &Stall{}},
			IO:     &Pressure{Some: Stall{0.42, 0.94, 2.71, 33883045}, Full: &Stall{0.10, 0.61, 2.14, 28714216}},
		},
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
	if got.Memory != nil || got.IO != nil || got.Tasks != nil || got.CPU == nil || got.CPU.Throttled != nil {
		t.Errorf("usage of a cgroup without controllers: %+v", got)
	}
	var files []string
	for _, a := range got.Absent {
		files = append(files, a.File)
		if !strings.Contains(a.Why, "not enabled") {
			t.Errorf("%s is absent because %q", a.File, a.Why)
		}
	}
	if want := "memory.current io.stat pids.current"; strings.Join(files, " ") != want {
		t.Errorf("absent: %q, want %q", files, want)
	}
}

func TestEmptyFileIsZero(t *testing.T) {
	got, err := ReadUsage(tree, "/empty.service")
	if err != nil {
		t.Fatal(err)
	}
	if got.IO == nil || *got.IO != (IO{}) {
		t.Errorf("io of a cgroup that did none: %v", got.IO)
	}
	if got.Tasks == nil || *got.Tasks != Infinity {
		t.Errorf("tasks: %v", got.Tasks)
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
	if err := os.WriteFile(filepath.Join(outside, "pids.current"), []byte("7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../outside", "/../outside", "a/../../outside", "link"} {
		if u, err := ReadUsage(inside, name); err == nil && u.Tasks != nil {
			t.Errorf("%s led to %d tasks", name, *u.Tasks)
		}
	}
}

func FuzzPressure(f *testing.F) {
	f.Add("some avg10=0.42 avg60=0.94 avg300=2.71 total=33883045\nfull avg10=0.10 avg60=0.61 avg300=2.14 total=28714216\n")
	f.Add("some avg10=0 avg60=0 avg300=0 total=18446744073709551616\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePressure("memory.pressure", text)
		if (err == nil) != (p != nil) {
			t.Fatalf("%v and %v", p, err)
		}
		if p != nil && (p.Some.Avg10 < 0 || p.Full != nil && p.Full.Avg300 < 0) {
			t.Errorf("negative pressure out of %q", text)
		}
	})
}
