package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// cleaning is a host with the pool gemma, a unit of the pool orphan, and what several pools left.
func cleaning(t *testing.T) (h *host, root string, ctl func(args ...string) result) {
	t.Helper()
	h, root = newHost(t), t.TempDir()
	h.fill()
	h.reg.SetProblems(nil)
	for _, path := range []string{
		"/var/lib/private/pool-engine/gemma.r0/kept", "/var/lib/private/pool-engine/gone.r0/big",
		"/var/lib/private/pool-engine/gone.r0b/x", "/var/cache/private/pool-engine/gone.r0/kernels/a",
		"/var/lib/private/pool-engine/orphan.r0/x", "/var/lib/private/pool-engine/not-ours/x",
		"/run/pool-managerd/engines/gone.r0.json", "/run/pool-managerd/engines/gemma.r0.json", "/run/pool-managerd/engines/notes.txt",
		"/run/pool-managerd/restarts/gone:r0", "/run/pool-managerd/restarts/gemma:r0",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 2048), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	links := filepath.Join(root, "/var/lib/pool-engine")
	if err := os.MkdirAll(links, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone.r0", "gemma.r0"} {
		if err := os.Symlink("../private/pool-engine/"+name, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A link that an engine made must not lead the deletion anywhere.
	if err := os.Symlink(filepath.Join(root, "/var/lib/private/pool-engine/gemma.r0"),
		filepath.Join(root, "/var/lib/private/pool-engine/gone.r0/link")); err != nil {
		t.Fatal(err)
	}
	systemctl := filepath.Join(t.TempDir(), "systemctl")
	script := "#!/bin/sh\necho 'pool-engine@orphan.r0.service loaded failed failed Engine r0'\n"
	if err := os.WriteFile(systemctl, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return h, root, func(args ...string) result {
		var out, errOut syncBuffer
		a := &app{out: &out, err: &errOut, now: time.Now, systemctl: systemctl, root: root}
		code := run(t.Context(), a, append(args, "--socket", h.socket))
		return result{code, out.String(), errOut.String()}
	}
}

// TestCleanOfRemovedPools: what removed pools left is listed, and deleted when that is asked for;
// what belongs to a pool that is configured, or of which PID 1 has a unit, is never touched.
func TestCleanOfRemovedPools(t *testing.T) {
	want := []string{"/run/pool-managerd/engines/gone.r0.json", "/run/pool-managerd/restarts/gone:r0",
		"/var/cache/private/pool-engine/gone.r0", "/var/lib/pool-engine/gone.r0", "/var/lib/private/pool-engine/gone.r0",
		"/var/lib/private/pool-engine/gone.r0b"}
	kept := []string{"/var/lib/private/pool-engine/gemma.r0/kept", "/var/lib/pool-engine/gemma.r0", "/run/pool-managerd/engines/gemma.r0.json",
		"/run/pool-managerd/restarts/gemma:r0", "/var/lib/private/pool-engine/orphan.r0", "/var/lib/private/pool-engine/not-ours",
		"/run/pool-managerd/engines/notes.txt"}
	there := func(root, path string) bool { _, err := os.Lstat(filepath.Join(root, path)); return err == nil }

	t.Run("lists", func(t *testing.T) {
		_, root, run := cleaning(t)
		r := run("clean")
		if r.code != exitOK || strings.Count(r.out, "\n") != len(want)+2 || !strings.Contains(r.out, "2.0 KiB") ||
			!strings.Contains(r.out, "poolctl clean --remove deletes them.") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
		for _, path := range want {
			if !strings.Contains(r.out, " "+path+"\n") || !there(root, path) {
				t.Errorf("%s is not listed, or is deleted:\n%s", path, r.out)
			}
		}
	})
	t.Run("removes", func(t *testing.T) {
		_, root, run := cleaning(t)
		if r := run("clean", "--remove"); r.code != exitOK || !strings.Contains(r.out, "They were deleted.") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
		for _, path := range want {
			if there(root, path) {
				t.Errorf("%s is left", path)
			}
		}
		for _, path := range kept {
			if !there(root, path) {
				t.Errorf("%s was deleted", path)
			}
		}
		if r := run("clean"); r.out != "Removed pools left nothing.\n" {
			t.Errorf("a second time: %s", r.out)
		}
		if r := run("clean", "-o", "json"); r.out != `{"removed":false,"leftovers":[]}`+"\n" {
			t.Errorf("as JSON: %s", r.out)
		}
	})
	t.Run("as_json", func(t *testing.T) {
		_, _, run := cleaning(t)
		if r := run("clean", "-o", "json"); r.code != exitOK || !strings.Contains(r.out,
			`{"pool_id":"gone","kind":"cache","path":"/var/cache/private/pool-engine/gone.r0","bytes":2048}`) {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
	})
	for name, c := range map[string]struct {
		problem registry.Problem
		code    int
	}{
		"a_file_of_an_unknown_pool_is_bad": {registry.Problem{File: "/etc/pool-managerd/pools.d/x.toml", Text: "bad"}, exitFailed},
		"the_file_of_that_pool_is_bad":     {registry.Problem{File: "/etc/x.toml", PoolID: "gone", Text: "bad"}, exitOK},
		"a_damaged_state_file":             {registry.Problem{File: "/var/lib/pool-managerd/intents.db", Text: "bad"}, exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			h, root, run := cleaning(t)
			h.reg.SetProblems([]registry.Problem{c.problem})
			r := run("clean", "--remove")
			deleted := !there(root, want[4])
			if r.code != c.code || deleted != (name == "a_damaged_state_file") {
				t.Errorf("status %d, deleted: %t\n%s%s", r.code, deleted, r.out, r.errOut)
			}
		})
	}
	t.Run("a_pool_that_came_back", func(t *testing.T) {
		h, root, _ := cleaning(t)
		h.reg.Put(registry.Pool{ID: "gone"})
		c, err := newClient(options{socket: h.socket, output: formatTable})
		if err != nil {
			t.Fatal(err)
		}
		if err := stillGone(t.Context(), c, "gone"); err == nil || !strings.Contains(err.Error(), "is there again") {
			t.Errorf("%v", err)
		}
		if !there(root, want[0]) {
			t.Error(fmt.Errorf("%s was deleted", want[0]))
		}
	})
}

// TestSizeOfAFileWithHoles is what it takes on the disk.
func TestSizeOfAFileWithHoles(t *testing.T) {
	dir := t.TempDir()
	hollow := filepath.Join(dir, "hollow")
	if err := errors.Join(os.WriteFile(hollow, []byte("begins"), 0o600), os.Truncate(hollow, 1<<40),
		os.WriteFile(filepath.Join(dir, "small"), []byte("12345"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if n := sizeBelow(dir); n < 5+6 || n > 1<<20 {
		t.Errorf("%d bytes, want what is on the disk", n)
	}
}
