package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
	"github.com/pool-managerd/pool-managerd/units/engine"
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
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode),
		os.Chmod(path, mode)); err != nil {
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
	s := d.open("state/verdicts.db")
	d.t.Cleanup(func() { s.Close() })
	return s
}

// open opens a store that nothing may be wrong with.
func (d disk) open(name string) *Store {
	return OpenStore(d.path(name), func(r boltfile.Report) { d.t.Errorf("%+v", r) })
}

func vllm(path string) pool.Pool {
	return pool.Pool{ID: "a", Engine: engine.VLLM, Model: pool.Model("file:" + path)}
}

// tiny is a whole GGUF file.
func tiny(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := tinymodel.Write(path, tinymodel.Options{}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func llama(path string) pool.Pool {
	return pool.Pool{ID: "a", Engine: engine.LlamaCpp, Model: pool.Model("file:" + path)}
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
			return vllm(d.path("m"))
		}, "", "", "", 1},
		{"a_link_to_a_directory", func(d disk) pool.Pool {
			d.file("m/config.json", "{}", 0o644)
			d.link("m", "current")
			return vllm(d.path("current"))
		}, "", "", "", 1},
		{"a_snapshot_of_links_to_files_beside_it", func(d disk) pool.Pool {
			d.file("hub/blobs/abc", "weights", 0o644)
			d.file("hub/blobs/def", "{}", 0o644)
			d.file("hub/snapshots/1/own.txt", "own", 0o644)
			d.link("../../blobs/abc", "hub/snapshots/1/model.safetensors")
			d.link("../../blobs/def", "hub/snapshots/1/config.json")
			d.link("own.txt", "hub/snapshots/1/other.txt")
			return vllm(d.path("hub/snapshots/1"))
		}, "", "", "", 3}, // the directory and two blobs
		{"a_part_number_of_nothing", func(d disk) pool.Pool { return llama(d.file("m-00001-of-00000.gguf", weights, 0o644)) }, "", "", "", 1},
		{"no_model_for_a_command", func(disk) pool.Pool { return pool.Pool{ID: "a", Engine: engine.Program} }, "", "", "", 0},

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
			registry.CodeModelNotFound, "2 of its 3 parts are missing: m-00002-of-00003.gguf, m-00003-of-00003.gguf", "missing parts", 0},
		{"part_in_other_case", func(d disk) pool.Pool {
			d.file("M-00002-of-00002.gguf", weights, 0o644)
			return llama(d.file("m-00001-of-00002.gguf", weights, 0o644))
		}, registry.CodeModelNotFound, "its part m-00002-of-00002.gguf is called M-00002-of-00002.gguf", "mv -n", 0},
		{"second_part_named", func(d disk) pool.Pool { return llama(d.file("m-00002-of-00003.gguf", weights, 0o644)) },
			registry.CodeModelNotFound, "needs the first part", "m-00001-of-00003.gguf", 0},
		{"a_directory_for_llamacpp", func(d disk) pool.Pool {
			d.file("m/a.gguf", weights, 0o644)
			return llama(d.path("m"))
		}, registry.CodeModelNotFound, "is a directory", "There is a.gguf", 0},
		{"empty_directory", func(d disk) pool.Pool {
			d.file("m/sub/empty", "", 0o644)
			return vllm(d.path("m"))
		}, registry.CodeModelNotFound, "contains no files", "", 0},
		{"closed_directory", func(d disk) pool.Pool {
			d.file("m/sub/w", "w", 0o644)
			if err := os.Chmod(d.path("m/sub"), 0o700); err != nil {
				d.t.Fatal(err)
			}
			return vllm(d.path("m"))
		}, registry.CodeModelNotFound, "mode 0700", "chmod -R o+rX", 0},
		{"directory_that_links_into_itself", func(d disk) pool.Pool {
			d.file("m/w", "w", 0o644)
			d.link(".", "m/again")
			return vllm(d.path("m"))
		}, registry.CodeModelNotFound, "leads back to a directory above it", "Remove the link", 0},
		{"directory_with_a_dangling_link", func(d disk) pool.Pool {
			d.file("m/w", "w", 0o644)
			d.link("../blobs/gone", "m/weights")
			return vllm(d.path("m"))
		}, registry.CodeModelNotFound, "symbolic link to ../blobs/gone", "Copy", 0},
		{"directory_with_a_closed_file_beside_it", func(d disk) pool.Pool {
			d.file("blob", "w", 0o600)
			d.file("m/config.json", "{}", 0o644)
			d.link("../blob", "m/weights")
			return vllm(d.path("m"))
		}, registry.CodeModelNotFound, "weights has mode 0600", "chmod o+r", 0},
		{"far_too_many_files", func(d disk) pool.Pool {
			for i := range maxModelFiles + 1 {
				d.file(fmt.Sprintf("m/%d", i), "w", 0o644)
			}
			return vllm(d.path("m"))
		}, registry.CodeModelNotFound, "more than 4096 files", "one model", 0},
		{"empty_file", func(d disk) pool.Pool { return llama(d.file("a.gguf", "", 0o644)) }, registry.CodeModelNotFound, "is empty", "again", 0},
		{"zeroes", func(d disk) pool.Pool { return llama(d.file("a.gguf", strings.Repeat("\x00", 4096), 0o644)) },
			registry.CodeProvisionFailed, "begins with zeros", "Download", 0},
		{"cut_off", func(d disk) pool.Pool { return llama(d.file("a.gguf", tiny(d.t)[:100_000], 0o644)) },
			registry.CodeProvisionFailed, "it has 100000 bytes, but its header requires at least", "Download", 0},
		{"cut_off_in_the_header", func(d disk) pool.Pool { return llama(d.file("a.gguf", tiny(d.t)[:1000], 0o644)) },
			registry.CodeProvisionFailed, "it has 1000 bytes and ends within its header", "Download", 0},
		{"a_part_that_is_cut_off", func(d disk) pool.Pool {
			d.file("m-00002-of-00002.gguf", tiny(d.t)[:1000], 0o644)
			return llama(d.file("m-00001-of-00002.gguf", tiny(d.t), 0o644))
		}, registry.CodeProvisionFailed, "m-00002-of-00002.gguf is incomplete", "Download", 0},
		{"a_web_page", func(d disk) pool.Pool { return llama(d.file("a.gguf", "<!DOCTYPE html>", 0o644)) },
			registry.CodeProvisionFailed, "web page", "Download", 0},
		{"a_git_lfs_pointer", func(d disk) pool.Pool {
			return llama(d.file("a.gguf", "version https://git-lfs.github.com/spec/v1\n", 0o644))
		}, registry.CodeProvisionFailed, "git-lfs pointer", "Download", 0},
		{"another_source", func(disk) pool.Pool { return pool.Pool{ID: "a", Model: "hf:org/name"} }, registry.CodeProvisionFailed, `nothing downloads models`, "file:", 0},
		{"wrong_digest", func(d disk) pool.Pool {
			p := llama(d.file("a.gguf", weights, 0o644))
			p.ModelDigest = "sha256:" + strings.Repeat("0", 64)
			return p
		}, registry.CodeDigestMismatch, "has the digest sha256:" + sha(weights), "sha256sum", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			s := &Stager{Log: slog.New(slog.DiscardHandler)}
			staged, err := s.Stage(t.Context(), c.setup(d), nil)
			if c.code == "" {
				if err != nil || len(staged.Files) != c.files {
					t.Fatalf("Stage = %+v, %v, want %d files", staged, err, c.files)
				}
				return
			}
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != c.code || !strings.Contains(f.Message, c.says) ||
				!strings.Contains(f.Hint, c.hint) {
				t.Errorf("Stage: %+v (%v), want %s with %q and the hint %q", f, err, c.code, c.says, c.hint)
			}
		})
	}
}

// TestClosedFolder: the manager is root without capabilities, and may lack the permission to enter
// a folder like any user.
func TestClosedFolder(t *testing.T) {
	d := newDisk(t)
	d.file("x/closed/deep/a.gguf", weights, 0o644)
	if err := os.Chmod(d.path("x/closed"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(d.path("x/closed"), 0o755) })
	asNobody(t, func() {
		s := &Stager{Log: slog.New(slog.DiscardHandler)}
		_, err := s.Stage(t.Context(), llama(d.path("x/closed/deep/a.gguf")), nil)
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodeModelNotFound || !strings.HasSuffix(f.Message,
			"cannot enter "+d.path("x/closed")) || !strings.Contains(f.Hint, "chmod o+x") {
			t.Errorf("Stage: %+v (%v)", f, err)
		}
	})
}

// asNobody runs a function with the file access of another user. The rights belong to the thread,
// which ends with the goroutine.
func asNobody(t *testing.T, run func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			for dir := filepath.Dir(t.TempDir()); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
				_ = os.Chmod(dir, 0o755)
			}
			if err := unix.Setfsgid(65534); err != nil {
				t.Error(err)
			}
			if err := unix.Setfsuid(65534); err != nil {
				t.Error(err)
			}
		}
		run()
	}()
	<-done
}
