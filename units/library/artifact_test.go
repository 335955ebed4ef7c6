package library

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOpenDigest: whole files that every user may read are opened by their digest; links, pipes,
// files of others and names that are no digests are not.
func TestOpenDigest(t *testing.T) {
	cache, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	digest := func(c string) string { return strings.Repeat(c, 64) }
	put := func(name string, mode os.FileMode) {
		t.Helper()
		name = filepath.Join(cache, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(name), mode),
			os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	put("models--a--b/blobs/"+digest("1"), 0o644)
	put("models--c--d/blobs/"+digest("2"), 0o640)
	put("models--c--d/blobs/"+digest("3")+".706f6f6c.incomplete", 0o644)
	put("models--c--d/blobs/"+digest("4")+".wrong", 0o644)
	put("models--c--d/blobs/0123456789012345678901234567890123456789", 0o644)
	put("models--c--d/"+digest("5"), 0o644)
	blobs := filepath.Join(cache, "models--c--d/blobs")
	if err := errors.Join(os.WriteFile(outside, []byte("secret"), 0o644),
		os.Symlink(outside, filepath.Join(blobs, digest("6"))),
		syscall.Mkfifo(filepath.Join(blobs, digest("7")), 0o644),
		os.Mkdir(filepath.Join(blobs, digest("8")), 0o755),
		os.Symlink(filepath.Dir(outside), filepath.Join(cache, "models--x--y"))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		digest string
		want   string
	}{
		"whole":              {"sha256:" + digest("1"), "models--a--b/blobs/" + digest("1")},
		"not_for_every_user": {"sha256:" + digest("2"), ""},
		"in_part":            {"sha256:" + digest("3"), ""},
		"with_a_suffix":      {"sha256:" + digest("3") + ".706f6f6c.incomplete", ""},
		"set_aside":          {"sha256:" + digest("4"), ""},
		"of_git":             {"sha256:0123456789012345678901234567890123456789", ""},
		"elsewhere":          {"sha256:" + digest("5"), ""},
		"link":               {"sha256:" + digest("6"), ""},
		"pipe":               {"sha256:" + digest("7"), ""},
		"directory":          {"sha256:" + digest("8"), ""},
		"nowhere":            {"sha256:" + digest("9"), ""},
		"path":               {"sha256:../../../" + outside, ""},
		"without_a_scheme":   {digest("1"), ""},
		"upper_case":         {"sha256:" + digest("A"), ""},
		"empty":              {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := OpenDigest(cache, c.digest)
			if c.want == "" {
				if !errors.Is(err, ErrNotThere) {
					t.Errorf("opened, %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if text, err := io.ReadAll(f); err != nil || !strings.HasSuffix(string(text), c.want) {
				t.Errorf("%s, %v", text, err)
			}
		})
	}
	if _, err := OpenDigest(filepath.Join(cache, "none"), "sha256:"+digest("1")); !errors.Is(err, ErrNotThere) {
		t.Errorf("a cache that is not there: %v", err)
	}
}
