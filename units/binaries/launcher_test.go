package binaries

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLaunched: programs that would start an engine and cannot do so in its unit are refused with
// what to name instead; programs that are the engine are not.
func TestLaunched(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "llama.AppImage")
	old := filepath.Join(dir, "old")
	plain := filepath.Join(dir, "llama-server")
	for file, head := range map[string]string{image: "\x7fELF\x02\x01\x01\x00AI\x02\x00", old: "\x7fELF\x02\x01\x01\x00AI\x01\x00",
		plain: "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00"} {
		if err := os.WriteFile(file, []byte(head), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, binary string
		executes     []string
		says, hint   string
	}{
		{"program", plain, []string{plain}, "", ""},
		{"appimage", image, []string{image}, "is an AppImage", "--appimage-extract"},
		{"appimage_of_type_1", old, []string{old}, "is an AppImage", "cd '" + dir + "'"},
		{"script_that_executes_one", "/usr/local/bin/run", []string{"/usr/local/bin/run", image}, "executes " + image + ", which is an AppImage", image},
		{"snap", "/snap/bin/llama.server", []string{"/snap/bin/llama.server", "/usr/bin/snap"}, "/usr/bin/snap, which starts programs with root's rights", "/snap/'llama'/current/"},
		{"flatpak", "/var/lib/flatpak/exports/bin/org.x", []string{"/usr/bin/flatpak"}, "namespaces of its own", "grep -n 'flatpak'"},
		{"docker", "/usr/local/bin/run", []string{"/usr/bin/docker"}, "in a container", `mode = "container"`},
		{"sudo", "/usr/local/bin/run", []string{"/usr/bin/sudo"}, "another user", "Leave it out"},
		{"systemd_run", "/usr/local/bin/run", []string{"/usr/bin/systemd-run"}, "outside of the pool's unit", "program itself"},
		{"pyenv", "/home/ann/.pyenv/shims/vllm", []string{"/home/ann/.pyenv/shims/vllm"}, "is a shim of pyenv", "pyenv which 'vllm'"},
		{"interpreter_of_pyenv", "/opt/run.py", []string{"/opt/run.py", "/opt/pyenv/shims/python"}, "executes /opt/pyenv/shims/python, which is a shim", "pyenv which 'python'"},
		{"asdf", "/home/ann/.asdf/shims/vllm", []string{"/home/ann/.asdf/shims/vllm"}, "shim of asdf", "asdf which"},
		{"mise", "/home/ann/.local/share/mise/shims/vllm", []string{"/home/ann/.local/share/mise/shims/vllm", "/home/ann/.local/bin/mise"}, "shim of mise", "mise which"},
		{"folder_that_is_called_so", "/opt/engine/shims/vllm", []string{"/opt/engine/shims/vllm"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Launched(c.binary, c.executes, nil)
			if (f == nil) != (c.says == "") {
				t.Fatalf("%+v, want %q", f, c.says)
			}
			if f != nil && (!strings.Contains(f.Message, c.says) || !strings.Contains(f.Hint, c.hint)) {
				t.Errorf("%+v, want %q and %q", f, c.says, c.hint)
			}
		})
	}
	if f := Launched(image, []string{image}, map[string]string{"APPIMAGE_EXTRACT_AND_RUN": "1"}); f != nil {
		t.Errorf("an AppImage that unpacks itself: %+v", f)
	}
}
