package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheckOfWhatIsAwaited: a model and a program that are not there are warnings, with place and
// hint: the check may be made on another host. --strict makes them count.
func TestCheckOfWhatIsAwaited(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("config.toml", "require_gpu = false\n", 0o644)
	model := write("a.gguf", "GGUF and the rest", 0o644)
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	there := dir + "/llama-server"
	good := write("good", "#!/bin/sh\n", 0o755)
	image := write("e.AppImage", "\x7fELF\x02\x01\x01\x00AI\x02", 0o755)
	parts := write("m/w-00001-of-00002.gguf", "GGUF and the rest", 0o644)
	write("m/w-00002-of-00002.gguf", "", 0o644)
	for _, c := range []struct {
		name, binary, model string
		warning, hint       string // "": none
	}{
		{"good", good, model, "", ""},
		{"no_program", there, model, ":4:10: warning: binary " + there + " does not exist",
			"correct [provisioning] binary: find /usr /opt /srv -name 'llama-server'"},
		{"no_program_of_that_name", "no-such-engine", model, ":4:10: warning: no binary no-such-engine in /usr/local/sbin",
			"Install the engine, or name its path"},
		{"a_directory", dir, model, "is not a regular file", "ls -ld"},
		{"no_program_but_data", write("data", "hello", 0o755), model, "neither a program nor a script", "file '"},
		{"not_executable", write("closed", "#!/bin/sh\n", 0o700), model, "the engine's user cannot execute it", "chmod o+rx"},
		{"no_model", good, dir + "/b.gguf", ":2:9: warning: model " + dir + "/b.gguf does not exist", "There is a.gguf."},
		{"model_is_a_directory", good, dir, ":2:9: warning: model " + dir + " is a directory", "Name the .gguf file in it"},
		{"model_is_a_device", good, "/dev/null", "model /dev/null is not a regular file", "ls -ld"},
		{"model_is_a_pipe", good, fifo, "fifo is not a regular file", "ls -ld"},
		{"model_is_empty", good, write("x/empty.gguf", "", 0o644), "is empty", "Copy the file again"},
		{"model_is_closed", good, write("x/closed.gguf", "GGUF and the rest", 0o640), "has mode 0640", "chmod o+r"},
		{"model_is_a_pointer", good, write("x/pointer.gguf", "version https://git-lfs.github.com/spec/v1\n", 0o644),
			"is a git-lfs pointer", "lfs pull"},
		{"model_is_a_web_page", good, write("x/page.gguf", "<!DOCTYPE html>", 0o644), "is not a GGUF file: it is a web page", "Download"},
		{"model_is_cut", good, write("x/cut.gguf", "GGUF\x03\x00\x00\x00", 0o644), "is incomplete", "Download the file again"},
		{"a_part_is_missing", good, write("x/m-00001-of-00002.gguf", "GGUF and the rest", 0o644), "1 of its 2 parts are missing: m-00002-of-00002.gguf", "missing parts"},
		{"a_part_is_empty", good, parts, "m/w-00002-of-00002.gguf is empty", "Copy the file again"},
		{"an_appimage", image, model, ":4:10: warning: binary " + image + " is an AppImage", "--appimage-extract"},
		{"a_script_that_executes_one", write("run", "#!/bin/sh\nexec "+image+" \"$@\"\n", 0o755), model, "executes " + image + ", which is an AppImage", "--appimage-extract"},
		{"a_shim", write(".pyenv/shims/e", "#!/bin/sh\n", 0o755), model, "is a shim of pyenv", "pyenv which 'e'"},
		{"without_a_model", good, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := "engine = \"llamacpp\"\nmodel = \"file:" + c.model + "\"\n"
			if c.model == "" {
				file = "engine = \"command\"\n"
			}
			write("pools.d/f.toml", file+"[provisioning]\nbinary = \""+c.binary+"\"\n", 0o644)
			args := []string{"check", "--config", config, "--pools-dir", filepath.Join(dir, "pools.d")}
			plain := poolctl(t.Context(), args...)
			strict := poolctl(t.Context(), append(args, "--strict")...)
			if plain.code != exitOK || !strings.Contains(plain.out, c.warning) || !strings.Contains(plain.out, c.hint) {
				t.Errorf("%d %s%s", plain.code, plain.out, plain.errOut)
			}
			counted := exitFailed
			if c.warning == "" {
				counted = exitOK
			}
			if strict.code != counted || strict.out != plain.out {
				t.Errorf("--strict: %d %s%s", strict.code, strict.out, strict.errOut)
			}
			if c.warning == "" && plain.out != "The configuration is good.\n" {
				t.Errorf("a warning of nothing: %s", plain.out)
			}
		})
	}
}
