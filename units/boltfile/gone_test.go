package boltfile

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// TestGone: a file that another process deletes or replaces while it is in use is written again
// with everything that was in it, by the next change or the next check.
func TestGone(t *testing.T) {
	before := entries(300)
	for _, c := range []struct {
		name  string
		take  func(path string) error
		aside int // files that are moved aside
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
		for how, act := range map[string]func(f *File){
			"check": (*File).Check,
			"change": func(f *File) {
				put(t, f, small, map[string]string{"drain": "asked"})
			},
		} {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "state", "x.db")
				f, reports := open1(path)
				put(t, f, large, before)
				if err := c.take(path); err != nil {
					t.Fatal(err)
				}
				act(f)
				r := reports()
				if len(r) != 1 || !r[0].Gone || r[0].Path != path || r[0].Kept != len(before) || r[0].Refused != nil ||
					(r[0].Aside != "") != (c.aside == 1) {
					t.Fatalf("reports: %+v", r)
				}
				f.Check()
				put(t, f, small, map[string]string{"later": "too"})
				if len(reports()) != 1 {
					t.Errorf("reported again: %+v", reports())
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				again := good(t, path)
				defer again.Close()
				if got := all(t, again, large); !maps.Equal(got, before) {
					t.Errorf("%d entries are in the file, want %d", len(got), len(before))
				}
				if got := all(t, again, small); got["later"] != "too" || how == "change" && got["drain"] != "asked" {
					t.Errorf("later changes: %v", got)
				}
			})
		}
	}
	t.Run("nothing_happened", func(t *testing.T) {
		f := good(t, filepath.Join(t.TempDir(), "x.db"))
		defer f.Close()
		f.Check()
		put(t, f, small, map[string]string{"a": "b"})
		f.Check()
	})
	t.Run("never_opened_or_closed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		f := good(t, path)
		if err := errors.Join(f.Close(), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
		f.Check()
		if _, err := os.Stat(path); err == nil {
			t.Error("a closed file was written again")
		}
	})
}

// TestGoneAndRefused: where the file cannot be written again, changes are refused, what was in it
// can be read, and it is reported once; it is written when that is possible again.
func TestGoneAndRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "x.db")
	f, reports := open1(path)
	defer f.Close()
	put(t, f, small, map[string]string{"a": "b"})
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.Check()
		if err := f.Update(func(*bbolt.Tx) error { return nil }); err == nil {
			t.Error("a change was acknowledged, and is in no file")
		}
	}
	if r := reports(); len(r) != 1 || !r[0].Gone || r[0].Refused == nil {
		t.Errorf("reports: %+v", r)
	}
	if got := all(t, f, small); got["a"] != "b" {
		t.Errorf("what was in it: %v", got)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	f.Check()
	if r := reports(); len(r) != 2 || r[1].Refused != nil || r[1].Kept != 1 {
		t.Errorf("reports: %+v", r)
	}
}
