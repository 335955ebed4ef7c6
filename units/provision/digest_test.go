package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestDigest(t *testing.T) {
	stage := func(t *testing.T, store *Store, p pool.Pool) (pool.Staged, string, error) {
		var log bytes.Buffer
		s := &Stager{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil))}
		staged, err := s.Stage(t.Context(), p, nil)
		return staged, log.String(), err
	}
	t.Run("a_verified_file_is_not_read_again", func(t *testing.T) {
		d := newDisk(t)
		store := d.store()
		p := llama(d.file("a.gguf", weights, 0o644))
		p.ModelDigest = "sha256:" + sha(weights)
		staged, log, err := stage(t, store, p)
		if err != nil || !staged.Verified || !strings.Contains(log, "verifying") {
			t.Fatalf("first: %+v, %v, log %q", staged, err, log)
		}
		staged, log, err = stage(t, store, p)
		if err != nil || !staged.Verified || strings.Contains(log, "verifying") {
			t.Errorf("second: %+v, %v, log %q; want the remembered verdict", staged, err, log)
		}
	})
	t.Run("a_changed_file_is_read_again", func(t *testing.T) {
		d := newDisk(t)
		store := d.store()
		p := llama(d.file("a.gguf", weights, 0o644))
		p.ModelDigest = "sha256:" + sha(weights)
		if _, _, err := stage(t, store, p); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(d.path("a.gguf"))
		if err != nil {
			t.Fatal(err)
		}
		// Same size and modification time: only the change time differs.
		d.file("a.gguf", strings.ToUpper(weights), 0o644)
		if err := os.Chtimes(d.path("a.gguf"), time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
		var f *registry.Failure
		if _, _, err := stage(t, store, p); !errors.As(err, &f) || f.Code != registry.CodeDigestMismatch {
			t.Errorf("a changed file: %v, want a mismatch", err)
		}
	})
	t.Run("of_several_files_as_sha256sum_lists_them", func(t *testing.T) {
		d := newDisk(t)
		d.file("m/b.txt", "bb", 0o644)
		d.file("m/a/c.txt", "cc", 0o644)
		d.file("m/a-b", "ab", 0o644) // before a/c.txt in the C locale
		d.file("m/z/__init__.py", "", 0o644)
		d.file(`m/\x`, "odd", 0o644)
		out, err := exec.Command("sh", "-c", "cd "+d.path("m")+
			` && find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`).Output()
		if err != nil {
			t.Fatal(err)
		}
		p := vllm(d.path("m"))
		p.ModelDigest = "sha256:" + strings.Fields(string(out))[0]
		if staged, _, err := stage(t, nil, p); err != nil || !staged.Verified {
			t.Errorf("Stage = %+v, %v", staged, err)
		}
	})
	t.Run("no_digest_is_said_once", func(t *testing.T) {
		d := newDisk(t)
		var log bytes.Buffer
		s := &Stager{Log: slog.New(slog.NewTextHandler(&log, nil))}
		p := llama(d.file("a.gguf", weights, 0o644))
		for range 3 {
			if staged, err := s.Stage(t.Context(), p, nil); err != nil || staged.Verified {
				t.Fatalf("Stage = %+v, %v", staged, err)
			}
		}
		if n := strings.Count(log.String(), "unverified"); n != 1 {
			t.Errorf("the advisory line is %d times in the log, want once", n)
		}
	})
	t.Run("replicas_of_a_pool_read_it_once", func(t *testing.T) {
		d := newDisk(t)
		var log bytes.Buffer
		s := &Stager{Store: d.store(), Log: slog.New(slog.NewTextHandler(&log, nil))}
		p := llama(d.file("a.gguf", weights, 0o644))
		p.ModelDigest = "sha256:" + sha(weights)
		var all errgroup.Group
		for range 8 {
			all.Go(func() error { _, err := s.Stage(t.Context(), p, nil); return err })
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "verifying"); n != 1 {
			t.Errorf("the file was read %d times", n)
		}
		if len(s.hashes.files) != 0 {
			t.Errorf("turns were left behind: %v", s.hashes.files)
		}
	})
	t.Run("ends_with_its_context", func(t *testing.T) {
		d := newDisk(t)
		s := &Stager{Log: slog.New(slog.DiscardHandler)}
		p := llama(d.file("a.gguf", weights, 0o644))
		p.ModelDigest = "sha256:" + sha(weights)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var f *registry.Failure
		if _, err := s.Stage(ctx, p, nil); !errors.Is(err, context.Canceled) || errors.As(err, &f) {
			t.Errorf("Stage: %v, want canceled and no verdict on the model", err)
		}
	})
	t.Run("waits_for_its_turn_only_so_long", func(t *testing.T) {
		var h hashing
		leave, err := h.enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.enter(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("enter: %v, want canceled", err)
		}
		leave()
		if leave, err = h.enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		leave()
	})
}

// TestDigestOfRewrittenFile: a file that is rewritten in place, with its size and modification time
// kept, has another change time, and that even when it was written only just before.
func TestDigestOfRewrittenFile(t *testing.T) {
	d := newDisk(t)
	s := &Stager{Store: d.store(), Log: slog.New(slog.DiscardHandler)}
	stamp := time.Unix(1_700_000_000, 0)
	for i := range 20 {
		content := weights + fmt.Sprintf("%02d", i)
		p := llama(d.file("a.gguf", content, 0o644))
		if err := os.Chtimes(d.path("a.gguf"), stamp, stamp); err != nil {
			t.Fatal(err)
		}
		p.ModelDigest = "sha256:" + sha(content)
		if _, err := s.Stage(t.Context(), p, nil); err != nil {
			t.Fatalf("rewrite %d: %v", i, err)
		}
	}
}
