package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCached(t *testing.T) {
	fill := func(path string) error { return os.WriteFile(path, []byte("whole"), 0o644) }

	t.Run("is_built_once_for_all", func(t *testing.T) {
		t.Setenv(CacheEnv, t.TempDir())
		var built atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				path, err := cached(t.Context(), "things", "one", func(path string, _ *os.File) error {
					built.Add(1)
					return fill(path)
				})
				if text, _ := os.ReadFile(path); err != nil || string(text) != "whole" {
					t.Errorf("%q, %v", text, err)
				}
			})
		}
		all.Wait()
		if n := built.Load(); n != 1 {
			t.Errorf("built %d times", n)
		}
	})
	t.Run("failure_leaves_nothing_and_may_be_repeated", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv(CacheEnv, dir)
		broken := errors.New("broken")
		_, err := cached(t.Context(), "things", "one", func(path string, _ *os.File) error {
			return errors.Join(fill(path), broken)
		})
		if !errors.Is(err, broken) {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "things", "*one")); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		if _, err := cached(t.Context(), "things", "one", func(path string, _ *os.File) error {
			return fill(path)
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("interrupted_build_is_not_taken_for_a_whole_one", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv(CacheEnv, dir)
		// What a process leaves that is killed while it builds a directory.
		partial := filepath.Join(dir, "things", ".partial-one")
		if err := os.MkdirAll(filepath.Join(partial, "half"), 0o755); err != nil {
			t.Fatal(err)
		}
		path, err := cached(t.Context(), "things", "one", func(path string, _ *os.File) error {
			if _, err := os.Stat(path); err == nil {
				t.Error("the build starts on the rest of another")
			}
			return fill(path)
		})
		if text, _ := os.ReadFile(path); err != nil || string(text) != "whole" {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("waiting_ends_with_the_context", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv(CacheEnv, dir)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := cached(ctx, "things", "one", func(path string, _ *os.File) error {
			cancel()
			_, err := cached(ctx, "things", "one", func(string, *os.File) error {
				t.Error("two build at once")
				return nil
			})
			return err
		})
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "one") {
			t.Error(err)
		}
	})
}

func TestCacheDir(t *testing.T) {
	t.Setenv(CacheEnv, "/somewhere/else")
	if dir, err := CacheDir(); err != nil || dir != "/somewhere/else" {
		t.Error(dir, err)
	}
	t.Setenv(CacheEnv, "")
	t.Setenv("XDG_CACHE_HOME", "/x")
	if dir, err := CacheDir(); err != nil || dir != "/x/pool-managerd/machines" {
		t.Error(dir, err)
	}
}

func TestHostPackages(t *testing.T) {
	for _, name := range HostPackages() {
		if strings.ContainsAny(name, "#;$ ") {
			t.Errorf("%q: the Makefile hands these words to apt-get", name)
		}
	}
	err := findTools("sh", "no-such-tool")
	if err == nil || !strings.Contains(err.Error(), "no-such-tool") ||
		!strings.Contains(err.Error(), "apt-get install -y mmdebstrap") {
		t.Errorf("want what is missing and what to run: %v", err)
	}
}
