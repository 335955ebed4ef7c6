package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImport shows what an administrator sees of poolctl import, in a directory with sources.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unit := write("llama.service", "[Service]\nExecStart=/usr/bin/llama-server -m /srv/a.gguf --port "+
		"8080\nUser=llama\n")
	write("llama.service.d/gpu.conf", "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=1\nMemoryMax=8G\n")
	write("llama.service.d/ignored.txt", "[Service]\nMemoryMax=1G\n")
	swap := write("swap.yaml", "logLevel: debug\nmodels:\n  a: {cmd: 'llama-server -m /srv/a.gguf --port ${PORT} "+
		"-ngl 0'}\n  b: {ttl: 1}\n")
	h := newHost(t)

	t.Run("unit_with_its_drop_ins", func(t *testing.T) {
		r := h.run("import", unit)
		if r.code != exitOK || r.errOut != "" || !strings.Contains(r.out, "devices = [1]") ||
			!strings.Contains(r.out, `memory_max = "8G"`) || !strings.Contains(r.out, "left out (User)") ||
			strings.Contains(r.out, "==>") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
	})
	t.Run("one_engine_fails", func(t *testing.T) {
		r := h.run("import", swap)
		if r.code != exitFailed || !strings.Contains(r.out, "# "+swap+":1: logLevel") ||
			!strings.Contains(r.out, "devices = []") || !strings.Contains(r.errOut, "1 of 2 engines got no pool file") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
		}
	})
	t.Run("json", func(t *testing.T) {
		r := h.run("import", unit, "-o", "json")
		var answer struct {
			Format string
			Pools  []importedPool
		}
		if err := json.Unmarshal([]byte(r.out), &answer); err != nil || r.code != exitOK || len(answer.Pools) != 1 ||
			answer.Pools[0].File != "llama.toml" || answer.Format != "systemd unit" || len(answer.Pools[0].Notes) != 1 {
			t.Errorf("%v %d\n%s%s", err, r.code, r.out, r.errOut)
		}
	})
	t.Run("directory", func(t *testing.T) {
		out := t.TempDir()
		r := h.run("import", unit, "--directory", out)
		data, err := os.ReadFile(filepath.Join(out, "llama.toml"))
		if r.code != exitOK || err != nil || !strings.Contains(string(data), "port = 8080") ||
			!strings.Contains(r.out, "llama.toml: ") {
			t.Fatalf("%v %d\n%s%s", err, r.code, r.out, r.errOut)
		}
		r = h.run("check", "--pools-dir", out, "--config", filepath.Join(out, "none.toml"))
		for line := range strings.Lines(r.out) { // the model and the engine are on another host
			if !strings.Contains(line, "llama.toml:") || strings.Contains(line, "warning: ") {
				continue
			}
			t.Errorf("check found problems:\n%s%s", r.out, r.errOut)
		}
		r = h.run("import", unit, "--directory", out)
		after, err := os.ReadFile(filepath.Join(out, "llama.toml"))
		if r.code != exitFailed || err != nil || string(after) != string(data) ||
			!strings.Contains(r.errOut, "llama.toml exists; nothing was written") {
			t.Errorf("%v %d\n%s%s", err, r.code, r.out, r.errOut)
		}
	})
	for _, c := range []struct {
		name, want string
		code       int
		args       []string
	}{
		{"no_file", "want a file", exitUsage, nil},
		{"missing", "the file does not exist", exitFailed, []string{filepath.Join(dir, "none.service")}},
		{"a_directory", "this is a directory", exitFailed, []string{dir}},
		{"no_directory", "is no directory", exitFailed, []string{unit, "--directory", unit}},
		{"not_known", "no section [Service] or [Container]", exitFailed, []string{write("a.timer",
			"[Timer]\nOnCalendar=daily\n")}},
		{"drop_ins_of_yaml", "has no drop-ins", exitFailed, []string{swap, unit}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.run(append([]string{"import"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.errOut, c.want) || r.out != "" {
				t.Errorf("%d\n%s%s", r.code, r.out, r.errOut)
			}
		})
	}
}
