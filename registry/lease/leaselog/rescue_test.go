package leaselog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// TestRescue: where the directory of the file is gone and cannot be made again, every lease that
// was acknowledged is in another file, nothing more is acknowledged, and the next process has all.
func TestRescue(t *testing.T) {
	dir := t.TempDir()
	run, rescued := filepath.Join(dir, "run"), filepath.Join(dir, "rescued")
	path := filepath.Join(run, "leases.db")
	f, _ := Open(path, nil)
	for n := range 40 {
		if err := f.Save([]lease.Lease{sample(n, n)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, gone, err := f.Rescue(rescued); n != 0 || gone || err != nil {
		t.Fatalf("nothing is gone: %d, %t, %v", n, gone, err)
	}
	// A file in its place refuses to be a directory, as a read-only /run does.
	if err := errors.Join(os.RemoveAll(run), os.WriteFile(run, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is written again at each look
		if n, gone, err := f.Rescue(rescued); n != 40 || !gone || err != nil {
			t.Fatalf("rescued %d, %t, %v", n, gone, err)
		}
	}
	if err := f.Save([]lease.Lease{sample(50, 0)}, nil); err == nil {
		t.Error("a lease was acknowledged that is in no file")
	}
	if _, gone, err := f.Rescue(filepath.Join(dir, "none", "x")); !gone || err == nil {
		t.Errorf("a failed rescue: %t, %v", gone, err)
	}
	if err := errors.Join(f.Close(), os.Remove(run), os.Mkdir(run, 0o700)); err != nil {
		t.Fatal(err)
	}
	if done, err := Recover(path, rescued); !done || err != nil {
		t.Fatalf("Recover: %t, %v", done, err)
	}
	if got := kept(t, path); len(got) != 40 || got["l-0039"].Expires != 39 {
		t.Errorf("%d leases: %+v", len(got), got["l-0039"])
	}
	if done, err := Recover(path, rescued); done || err != nil {
		t.Errorf("a second time: %t, %v", done, err)
	}
}

// TestRecoverKeepsTheNewer: a file that is there was written after the rescue.
func TestRecoverKeepsTheNewer(t *testing.T) {
	dir := t.TempDir()
	path, rescued := filepath.Join(dir, "leases.db"), filepath.Join(dir, "rescued")
	for name, text := range map[string]string{path: "newer", rescued: "older"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Recover(path, rescued)
	text, _ := os.ReadFile(path)
	if _, gone := os.Lstat(rescued); done || err != nil || string(text) != "newer" || !errors.Is(gone, os.ErrNotExist) {
		t.Errorf("%t, %v, %q, %v", done, err, text, gone)
	}
}
