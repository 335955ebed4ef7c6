package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// disk is a folder that the tests fill.
type disk struct {
	t   *testing.T
	dir string
}

func newDisk(t *testing.T) disk {
	d := disk{t, t.TempDir()}
	if err := os.Chmod(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d disk) path(name string) string { return filepath.Join(d.dir, name) }

// file writes a file; a mode of its own is set whatever the umask is.
func (d disk) file(name, content string, mode os.FileMode) string {
	path := d.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		d.t.Fatal(err)
	}
	return path
}

func (d disk) link(target, name string) {
	if err := os.Symlink(target, d.path(name)); err != nil {
		d.t.Fatal(err)
	}
}

func sha(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func (d disk) store() *Store {
	s, _, err := OpenStore(d.path("state/verdicts.db"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { s.Close() })
	return s
}

func llama(path string) pool.Pool {
	return pool.Pool{ID: "a", Engine: pool.LlamaCpp, Model: pool.Model("file:" + path)}
}

const weights = "GGUF and the rest"

func TestStage(t *testing.T) {
	cases := []struct {
		name  string
		setup func(d disk) pool.Pool
		code  registry.Code // empty: staged
		says  string        // in the message
		hint  string
		files int
	}{
		{"a_file", func(d disk) pool.Pool { return llama(d.file("a.gguf", weights, 0o644)) }, "", "", "", 1},
		{"a_link_to_a_file", func(d disk) pool.Pool {
			d.file("real", weights, 0o644)
			d.link("real", "a.gguf")
			return llama(d.path("a.gguf"))
		}, "", "", "", 1},
		{"all_parts", func(d disk) pool.Pool {
			d.file("m-00002-of-00002.gguf", weights, 0o644)
			return llama(d.file("m-00001-of-00002.gguf", weights, 0o644))
		}, "", "", "", 2},
		{"a_directory_for_vllm", func(d disk) pool.Pool {
			d.file("m/config.json", "{}", 0o644)
			d.file("m/sub/__init__.py", "", 0o644)
			return pool.Pool{ID: "a", Engine: pool.VLLM, Model: pool.Model("file:" + d.path("m"))}
		}, "", "", "", 1},
		{"no_model_for_a_command", func(disk) pool.Pool { return pool.Pool{ID: "a", Engine: pool.Command} }, "", "", "", 0},

		{"missing", func(d disk) pool.Pool {
			d.file("b.gguf", weights, 0o644)
			return llama(d.path("a.gguf"))
		}, registry.CodeModelNotFound, "a.gguf does not exist", "There is b.gguf", 0},
		{"missing_folder", func(d disk) pool.Pool { return llama(d.path("x/y/a.gguf")) }, registry.CodeModelNotFound, "only", "Copy the model there", 0},
		{"dangling_link", func(d disk) pool.Pool {
			d.link("nowhere", "a.gguf")
			return llama(d.path("a.gguf"))
		}, registry.CodeModelNotFound, "symbolic link to nowhere", "Copy", 0},
		{"link_loop", func(d disk) pool.Pool {
			d.link("a.gguf", "a.gguf")
			return llama(d.path("a.gguf"))
		}, registry.CodeModelNotFound, "too many levels", "can be read", 0},
		{"unreadable_for_the_engine", func(d disk) pool.Pool { return llama(d.file("a.gguf", weights, 0o640)) },
			registry.CodeModelNotFound, "mode 0640", "chmod o+r", 0},
		{"unreadable_part", func(d disk) pool.Pool {
			d.file("m-00002-of-00002.gguf", weights, 0o600)
			return llama(d.file("m-00001-of-00002.gguf", weights, 0o644))
		}, registry.CodeModelNotFound, "m-00002-of-00002.gguf has mode 0600", "chmod o+r", 0},
		{"missing_part", func(d disk) pool.Pool { return llama(d.file("m-00001-of-00003.gguf", weights, 0o644)) },
			registry.CodeModelNotFound, "2 of its 3 parts are missing, m-00002-of-00003.gguf first", "missing parts", 0},
		{"second_part_named", func(d disk) pool.Pool { return llama(d.file("m-00002-of-00003.gguf", weights, 0o644)) },
			registry.CodeModelNotFound, "given the first", "m-00001-of-00003.gguf", 0},
		{"a_directory_for_llamacpp", func(d disk) pool.Pool {
			d.file("m/a.gguf", weights, 0o644)
			return llama(d.path("m"))
		}, registry.CodeModelNotFound, "is a directory", "There is a.gguf", 0},
		{"empty_directory", func(d disk) pool.Pool {
			d.file("m/sub/empty", "", 0o644)
			return pool.Pool{ID: "a", Engine: pool.VLLM, Model: pool.Model("file:" + d.path("m"))}
		}, registry.CodeModelNotFound, "holds no file", "", 0},
		{"closed_directory", func(d disk) pool.Pool {
			d.file("m/sub/w", "w", 0o644)
			if err := os.Chmod(d.path("m/sub"), 0o700); err != nil {
				d.t.Fatal(err)
			}
			return pool.Pool{ID: "a", Engine: pool.VLLM, Model: pool.Model("file:" + d.path("m"))}
		}, registry.CodeModelNotFound, "mode 0700", "chmod -R o+rX", 0},
		{"empty_file", func(d disk) pool.Pool { return llama(d.file("a.gguf", "", 0o644)) }, registry.CodeModelNotFound, "is empty", "again", 0},
		{"a_web_page", func(d disk) pool.Pool { return llama(d.file("a.gguf", "<!DOCTYPE html>", 0o644)) },
			registry.CodeProvisionFailed, "web page", "Fetch", 0},
		{"a_git_lfs_pointer", func(d disk) pool.Pool {
			return llama(d.file("a.gguf", "version https://git-lfs.github.com/spec/v1\n", 0o644))
		}, registry.CodeProvisionFailed, "git-lfs pointer", "Fetch", 0},
		{"another_source", func(disk) pool.Pool { return pool.Pool{ID: "a", Model: "hf:org/name"} }, registry.CodeProvisionFailed, `"hf" is not available`, "file:", 0},
		{"wrong_digest", func(d disk) pool.Pool {
			p := llama(d.file("a.gguf", weights, 0o644))
			p.ModelDigest = "sha256:" + strings.Repeat("0", 64)
			return p
		}, registry.CodeDigestMismatch, "is sha256:" + sha(weights), "sha256sum", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			s := &Stager{Log: slog.New(slog.DiscardHandler)}
			staged, err := s.Stage(t.Context(), c.setup(d))
			if c.code == "" {
				if err != nil || len(staged.Files) != c.files {
					t.Fatalf("Stage = %+v, %v, want %d files", staged, err, c.files)
				}
				return
			}
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != c.code || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("Stage: %+v (%v), want %s with %q and the remedy %q", f, err, c.code, c.says, c.hint)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	stage := func(t *testing.T, store *Store, p pool.Pool) (pool.Staged, string, error) {
		var log bytes.Buffer
		s := &Stager{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil))}
		staged, err := s.Stage(t.Context(), p)
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
		// Same size and modification time: only the change time tells.
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
		list := sha("cc") + "  a/c.txt\n" + sha("bb") + "  b.txt\n"
		p := pool.Pool{ID: "a", Engine: pool.VLLM, Model: pool.Model("file:" + d.path("m")), ModelDigest: "sha256:" + sha(list)}
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
			if staged, err := s.Stage(t.Context(), p); err != nil || staged.Verified {
				t.Fatalf("Stage = %+v, %v", staged, err)
			}
		}
		if n := strings.Count(log.String(), "unverified"); n != 1 {
			t.Errorf("the advisory line stands %d times in the log, want once", n)
		}
	})
	t.Run("ends_with_its_context", func(t *testing.T) {
		d := newDisk(t)
		path := d.file("a.gguf", weights, 0o644)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := hashFile(ctx, path); !errors.Is(err, context.Canceled) {
			t.Errorf("hashFile: %v, want canceled", err)
		}
	})
}

func TestStore(t *testing.T) {
	t.Run("verdicts_outlive_the_process", func(t *testing.T) {
		d := newDisk(t)
		s, _, err := OpenStore(d.path("v.db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.put(bucketVersions, "k", "b1"), s.Close()); err != nil {
			t.Fatal(err)
		}
		s, _, err = OpenStore(d.path("v.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if v, ok := s.get(bucketVersions, "k"); !ok || v != "b1" {
			t.Errorf("get = %q, %t", v, ok)
		}
	})
	t.Run("a_damaged_store_is_moved_aside", func(t *testing.T) {
		d := newDisk(t)
		path := d.file("v.db", strings.Repeat("garbage ", 4096), 0o600)
		s, moved, err := OpenStore(path)
		if err != nil || !moved {
			t.Fatalf("OpenStore: moved=%t, %v", moved, err)
		}
		defer s.Close()
		if _, err := os.Stat(path + ".broken"); err != nil {
			t.Errorf("the damaged file was not kept: %v", err)
		}
	})
	t.Run("a_second_process_is_told", func(t *testing.T) {
		d := newDisk(t)
		s, _, err := OpenStore(d.path("v.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, _, err := OpenStore(d.path("v.db")); err == nil || !strings.Contains(err.Error(), "held by another process") {
			t.Errorf("second OpenStore: %v", err)
		}
	})
	t.Run("only_so_many_are_kept", func(t *testing.T) {
		d := newDisk(t)
		s := d.store()
		s.keep = 3
		for _, key := range []string{"a", "b", "c", "d"} {
			if err := s.put(bucketDigests, key, "v"); err != nil {
				t.Fatal(err)
			}
		}
		_, oldest := s.get(bucketDigests, "a")
		_, newest := s.get(bucketDigests, "d")
		if oldest || !newest {
			t.Errorf("oldest kept %t, newest kept %t", oldest, newest)
		}
	})
}
