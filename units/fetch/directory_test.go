package fetch

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// TestMakeDirectory: the directory of an artefact is made and kept, and nothing that lies in its
// place is followed.
func TestMakeDirectory(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		before func(cache string) error
		dir    string
		owner  string
		says   string // of the failure; empty: none
	}{
		{"new", func(string) error { return nil }, "models--a--b", me.Username, ""},
		{"cache_is_not_there", func(cache string) error { return os.Remove(cache) }, "models--a--b", me.Username, ""},
		{
			"there_already",
			func(cache string) error { return os.MkdirAll(filepath.Join(cache, "models--a--b", "blobs"), 0o755) },
			"models--a--b",
			me.Username,
			"",
		},
		{
			"a_link",
			func(cache string) error { return os.Symlink("/etc", filepath.Join(cache, "models--a--b")) },
			"models--a--b",
			me.Username,
			"models--a--b",
		},
		{
			"a_file",
			func(cache string) error { return os.WriteFile(filepath.Join(cache, "models--a--b"), nil, 0o644) },
			"models--a--b",
			me.Username,
			"not a directory",
		},
		{"a_way_out", func(string) error { return nil }, "../x", me.Username, "plain name"},
		{"no_such_user", func(string) error { return nil }, "models--a--b", "no-such-user-here", "no-such-user-here"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "hub")
			if err := errors.Join(os.Mkdir(cache, 0o755), c.before(cache)); err != nil {
				t.Fatal(err)
			}
			err := MakeDirectory(cache, c.dir, c.owner)
			if c.says == "" {
				info, statErr := os.Lstat(filepath.Join(cache, c.dir))
				if err != nil || statErr != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
					t.Fatalf("got %v, %v, %v", err, statErr, info)
				}
				return
			}
			var f *Failure
			if !errors.As(err, &f) || f.Reason != wire.CacheFailed || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want a failure with %q", err, c.says)
			}
		})
	}
}
