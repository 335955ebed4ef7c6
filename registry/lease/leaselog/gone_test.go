package leaselog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// TestGone: a file that another process deletes or replaces while it is in use is written again
// with every lease, by the next change or the next check.
func TestGone(t *testing.T) {
	for _, c := range []struct {
		name  string
		take  func(path string) error
		aside int
	}{
		{"deleted", os.Remove, 0},
		{"directory_deleted", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, 0},
		{"renamed", func(path string) error { return os.Rename(path, path+".bak") }, 0},
		{"another_file_in_its_place", func(path string) error {
			return errors.Join(os.Rename(path, path+".bak"), os.WriteFile(path, []byte("older"), 0o600))
		}, 1},
		{"a_directory_in_its_place", func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, 1},
	} {
		for how, act := range map[string]func(f *File) error{
			"check":  func(f *File) error { f.Check(); return nil },
			"change": func(f *File) error { return f.Save([]lease.Lease{sample(500, 1)}, []string{sample(3, 0).ID}) },
		} {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "run", "leases.db")
				f, _ := Open(path, nil)
				var reports []Report
				f.Report(func(r Report) { reports = append(reports, r) })
				for n := range 40 {
					if err := f.Save([]lease.Lease{sample(n, n)}, nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(c.take(path), act(f)); err != nil {
					t.Fatal(err)
				}
				if len(reports) != 1 || !reports[0].Gone || reports[0].Kept != 40 ||
					(reports[0].Aside != "") != (c.aside == 1) {
					t.Fatalf("reports: %+v", reports)
				}
				f.Check()
				if err := errors.Join(f.Save([]lease.Lease{sample(600, 1)}, nil), f.Close()); err != nil {
					t.Fatal(err)
				}
				want := 41
				got := kept(t, path)
				if len(got) != want || got["l-0600"].ID == "" || len(reports) != 1 {
					t.Errorf("%d leases, want %d; reports %+v", len(got), want, reports)
				}
				if how == "change" && (got["l-0500"].ID == "" || got["l-0003"].ID != "") {
					t.Error("the change is not in the file")
				}
			})
		}
	}
	t.Run("in_the_middle_of_a_replacement", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.db")
		f, _ := Open(path, nil)
		f.sizes = sizes{shortest: 4 << 10, step: 200}
		for n := range 200 {
			if err := f.Save([]lease.Lease{sample(n%20, n)}, nil); err != nil {
				t.Fatal(err)
			}
			if n%17 == 5 {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
		}
		f.Check()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		for id, l := range kept(t, path) {
			if l.Expires < 180 {
				t.Errorf("%s is of change %d", id, l.Expires)
			}
		}
	})
	t.Run("where_it_cannot_be_written", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		path := filepath.Join(dir, "leases.db")
		f, _ := Open(path, nil)
		defer f.Close()
		if err := errors.Join(f.Save([]lease.Lease{sample(1, 1)}, nil), os.RemoveAll(dir),
			os.WriteFile(dir, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		f.Check()
		if err := f.Save([]lease.Lease{sample(2, 2)}, nil); err == nil {
			t.Error("a change was acknowledged, and is in no file")
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := f.Save([]lease.Lease{sample(3, 3)}, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := kept(t, path); len(got) != 2 || got["l-0001"].ID == "" || got["l-0003"].ID == "" {
			t.Errorf("%v", got)
		}
	})
}
