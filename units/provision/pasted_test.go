package provision

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestHints: the command at the end of a hint is one that a shell takes, names the right path, and,
// where it can do that, lets the next attempt pass what the former one failed at.
func TestHints(t *testing.T) {
	llamacpp, _ := engine.For(engine.LlamaCpp)
	binary := func(path string) pool.Pool {
		return pool.Pool{ID: "a", Engine: engine.LlamaCpp, Provisioning: pool.Provisioning{Binary: path}}
	}
	writes := func(d disk, path string) pool.Pool {
		p := binary(d.file("e", elfHead, 0o755))
		p.Writable = []string{path}
		return p
	}
	digest := func(path string) pool.Pool {
		p := llama(path)
		p.ModelDigest = "sha256:" + strings.Repeat("0", 64)
		return p
	}
	for _, c := range []struct {
		name    string
		setup   func(d disk) pool.Pool
		command string // DIR is the folder of the test
		fixes   bool
	}{
		{"binary/not_there", func(d disk) pool.Pool { return binary(d.path("e")) }, "find /usr /opt /srv -name 'e'", false},
		{"binary/no_such_name", func(disk) pool.Pool { return binary("none-such") }, "find /usr /opt /srv -name 'none-such'", false},
		{"binary/mode", func(d disk) pool.Pool { return binary(d.file("e", elfHead, 0o700)) }, "chmod o+rx 'DIR/e'", true},
		{"binary/mode_and_a_quote", func(d disk) pool.Pool { return binary(d.file("it's/e", elfHead, 0o700)) }, `chmod o+rx 'DIR/it'\''s/e'`, true},
		{"binary/directory", func(d disk) pool.Pool { d.file("e/x", elfHead, 0o755); return binary(d.path("e")) }, "ls -ld 'DIR/e'", false},
		{"binary/no_program", func(d disk) pool.Pool { return binary(d.file("e", "hello", 0o755)) }, "file 'DIR/e'", false},
		{"binary/script_that_cannot_be_read", func(d disk) pool.Pool { return binary(d.file("e", "#!/bin/sh\n", 0o711)) }, "chmod o+rx 'DIR/e'", true},
		{"binary/closed_folder", func(d disk) pool.Pool {
			p := binary(d.file("bin/e", elfHead, 0o755))
			if err := os.Chmod(d.path("bin"), 0o750); err != nil {
				d.t.Fatal(err)
			}
			return p
		}, "chmod o+rx 'DIR/bin'", true},
		{"interpreter/not_there", func(d disk) pool.Pool { return binary(d.file("e", "#!/no/python3\n", 0o755)) }, "head -n 1 'DIR/e'", false},
		{"interpreter/not_in_the_path", func(d disk) pool.Pool { return binary(d.file("e", "#!/usr/bin/env none-such\n", 0o755)) },
			"find /usr /opt /srv -name 'none-such'", false},
		{"writable/not_there", func(d disk) pool.Pool { return writes(d, d.path("slots")) }, "install -d -m 1777 'DIR/slots'", true},
		{"writable/mode", func(d disk) pool.Pool { return writes(d, d.file("slots", "", 0o644)) }, "chmod 0666 'DIR/slots'", true},
		{"writable/link", func(d disk) pool.Pool {
			d.file("there", "", 0o666)
			d.link("there", "slots")
			return writes(d, d.path("slots"))
		}, "readlink -f 'DIR/slots'", false},
		{"model/not_there", func(d disk) pool.Pool { return llama(d.path("a.gguf")) }, "namei -l 'DIR/a.gguf'", false},
		{"model/mode", func(d disk) pool.Pool { return llama(d.file("a.gguf", tiny(d.t), 0o600)) }, "chmod o+r 'DIR/a.gguf'", true},
		{"model/empty", func(d disk) pool.Pool { return llama(d.file("a.gguf", "", 0o644)) }, "ls -l 'DIR/a.gguf'", false},
		{"model/directory", func(d disk) pool.Pool { d.file("m/a.gguf", "", 0o644); return llama(d.path("m")) }, "find 'DIR/m' -name '*.gguf'", false},
		{"model/other_content", func(d disk) pool.Pool { return llama(d.file("a.gguf", "<html>", 0o644)) }, "file 'DIR/a.gguf'", false},
		{"model/incomplete", func(d disk) pool.Pool { return llama(d.file("a.gguf", tiny(d.t)[:4000], 0o644)) }, "ls -l 'DIR/a.gguf'", false},
		{"model/parts_missing", func(d disk) pool.Pool { return llama(d.file("a-00001-of-00002.gguf", tiny(d.t), 0o644)) }, "ls -l 'DIR'", false},
		{"model/closed_directory", func(d disk) pool.Pool {
			d.file("m/a.safetensors", "weights", 0o644)
			if err := os.Chmod(d.path("m"), 0o750); err != nil {
				d.t.Fatal(err)
			}
			return vllm(d.path("m"))
		}, "chmod -R o+rX 'DIR/m'", true},
		{"model/circle", func(d disk) pool.Pool {
			d.file("m/a.safetensors", "weights", 0o644)
			d.link(".", "m/m")
			return vllm(d.path("m"))
		}, "rm 'DIR/m/m'", true},
		{"model/digest", func(d disk) pool.Pool { return digest(d.file("a.gguf", tiny(d.t), 0o644)) }, "sha256sum 'DIR/a.gguf'", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			p, store := c.setup(d), d.store()
			once := func() *registry.Failure {
				var err error
				if p.Model != "" {
					s := &Stager{Store: store, Log: slog.New(slog.DiscardHandler)}
					_, err = s.Stage(t.Context(), p, func(pool.Staging) {})
				} else {
					pr := &Preparer{Capture: &said{out: "version: 1 (a)"}, Log: slog.New(slog.DiscardHandler)}
					_, err = pr.Prepare(t.Context(), p, llamacpp)
				}
				var f *registry.Failure
				if err != nil && !errors.As(err, &f) {
					t.Fatal(err)
				}
				return f
			}
			f := once()
			if f == nil {
				t.Fatal("nothing failed")
			}
			got, want := pasted(t, f.Hint), strings.ReplaceAll(c.command, "DIR", d.dir)
			if got != want {
				t.Errorf("the hint is %q, want the command %q", f.Hint, want)
			}
			if !c.fixes {
				return
			}
			if out, err := exec.Command("sh", "-ec", got).CombinedOutput(); err != nil {
				t.Fatalf("%s: %s (%v)", got, out, err)
			}
			if again := once(); again != nil {
				t.Errorf("after %s: %v", got, again)
			}
		})
	}
}
