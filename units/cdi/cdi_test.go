package cdi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// written makes files below a directory, and returns it.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// described is what nvidia-ctk writes of two GPUs, whose driver's files are in a directory.
func described(driver string) string {
	return strings.ReplaceAll(`{
	"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
	"devices": [
		{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}},
		{"name": "GPU-aaaa1111-0000-0000-0000-000000000000", "containerEdits": {"env": ["OF_DEVICE=1"]}},
		{"name": "1", "containerEdits": {}}, {"name": "all", "containerEdits": {}}],
	"containerEdits": {
		"env": ["NVIDIA_VISIBLE_DEVICES=void"],
		"deviceNodes": [{"path": "/dev/nvidiactl"}],
		"mounts": [
			{"hostPath": "DRIVER/libcuda.so.550.54", "containerPath": "/usr/lib64/libcuda.so.550.54", "options": ["ro", "bind"]},
			{"hostPath": "DRIVER/nvidia-smi", "containerPath": "/usr/bin/nvidia-smi"},
			{"hostPath": "/run/nvidia-persistenced/socket", "containerPath": "/run/nvidia-persistenced/socket"},
			{"hostPath": "/tmp/nvidia-mps", "containerPath": "/tmp/nvidia-mps"}],
		"hooks": [
			{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "create-symlinks",
				"--link", "libcuda.so.1::/usr/lib64/libcuda.so", "--link=libcuda.so.550.54::/usr/lib64/libcuda.so.1",
				"--link", "../none::/usr/lib64/dangling"]},
			{"hookName": "createContainer", "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib64/vdpau"]}]
	}}`, "DRIVER", driver)
}

func driverFiles(t *testing.T) string {
	return written(t, map[string]string{"libcuda.so.550.54": "no ELF", "nvidia-smi": ""})
}

// TestRead: files of the driver and variables; what hooks would make is among the mounts, and what
// is the unit's own is not.
func TestRead(t *testing.T) {
	driver := driverFiles(t)
	dir := written(t, map[string]string{"nvidia.json": described(driver), "other.json": `{"kind":"example.com/x","devices":7}`,
		"notes.txt": "x"})
	got, err := Read([]string{dir, filepath.Join(dir, "none")}, []string{"0", "1"})
	lib := driver + "/libcuda.so.550.54"
	want := Edits{Mounts: []Mount{{lib, "/usr/lib64/libcuda.so.550.54"}, {driver + "/nvidia-smi", "/usr/bin/nvidia-smi"},
		{lib, "/usr/lib64/libcuda.so.1"}, {lib, "/usr/lib64/libcuda.so"}},
		Env: []string{"NVIDIA_VISIBLE_DEVICES=void"}, Folders: []string{"/usr/lib64/vdpau", "/usr/lib64"},
		Libraries: []string{"libcuda.so.550.54"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, ofDevice := range map[string]bool{"GPU-AAAA1111": true, "gpu-aaaa1111-0000-0000-0000-000000000000": true,
		"0000:01:00.0": false} {
		got, err := Read([]string{dir}, []string{name})
		if err != nil || strings.Contains(fmt.Sprint(got.Env), "OF_DEVICE=1") != ofDevice {
			t.Errorf("%s: %v, %v", name, got.Env, err)
		}
	}
}

// TestLaterWins: /var/run/cdi is what the host has found out since its boot.
func TestLaterWins(t *testing.T) {
	of := func(value string) string {
		return `{"cdiVersion":"1.0.0","kind":"nvidia.com/gpu","devices":[{"name":"0","containerEdits":{"env":["V=` + value + `"]}}]}`
	}
	first := written(t, map[string]string{"nvidia.json": of("first")})
	second := written(t, map[string]string{"nvidia.json": of("second")})
	got, err := Read([]string{first, second}, []string{"0"})
	if diff := cmp.Diff([]string{"V=second"}, got.Env); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	both := written(t, map[string]string{"a.json": of("a"), "b.json": of("b")})
	if _, err := Read([]string{both}, []string{"0"}); err == nil || !strings.Contains(err.Error(), "b.json") {
		t.Errorf("a device of two files of a directory: %v", err)
	}
}

// TestRefused: what cannot be used is named, with what to do.
func TestRefused(t *testing.T) {
	driver := driverFiles(t)
	good := described(driver)
	edits := func(text string) string {
		return `{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[{"name":"0"}],"containerEdits":{` + text + `}}`
	}
	for name, c := range map[string]struct {
		files      map[string]string
		device     string
		want, hint string
	}{
		"none":             {nil, "0", "no file *.json in ", "Install nvidia-container-toolkit, then: " + Generate},
		"yaml":             {map[string]string{"nvidia.yaml": "kind: nvidia.com/gpu"}, "0", "nvidia.yaml is in YAML", "Write it in JSON"},
		"no_such_device":   {map[string]string{"a.json": good}, "2", "has the device nvidia.com/gpu=2; there are 0, GPU-aaaa1111", Generate},
		"no_such_uuid":     {map[string]string{"a.json": good}, "GPU-bbbb", "nvidia.com/gpu=GPU-bbbb", Generate},
		"no_devices":       {map[string]string{"a.json": `{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu"}`}, "0", "there are none", Generate},
		"not_json":         {map[string]string{"a.json": "x"}, "0", "no description of devices", Generate},
		"two":              {map[string]string{"a.json": good + good}, "0", "something follows", Generate},
		"version":          {map[string]string{"a.json": strings.Replace(good, "0.5.0", "2.0.0", 1)}, "0", `cdiVersion is "2.0.0"`, Generate},
		"name":             {map[string]string{"a.json": strings.Replace(good, `"1"`, `"1 2"`, 1)}, "0", "no name of a device", Generate},
		"large":            {map[string]string{"a.json": strings.Repeat(" ", mostBytes+1)}, "0", "more than", Generate},
		"former_driver":    {map[string]string{"a.json": strings.Replace(good, "nvidia-smi", "nvidia-old", 1)}, "0", "the driver was changed since", Generate},
		"relative":         {map[string]string{"a.json": edits(`"mounts":[{"hostPath":"x","containerPath":"/x"}]`)}, "0", "cannot be made", Generate},
		"over_the_root":    {map[string]string{"a.json": edits(`"mounts":[{"hostPath":"/etc","containerPath":"/a/.."}]`)}, "0", "cannot be made", Generate},
		"no_assignment":    {map[string]string{"a.json": edits(`"env":["X"]`)}, "0", "no assignment", Generate},
		"wrong_type":       {map[string]string{"a.json": edits(`"mounts":{}`)}, "0", "no description of devices", Generate},
		"a_folder_as_file": {map[string]string{"a.json/x": ""}, "0", "no regular file", Generate},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read([]string{written(t, c.files)}, []string{c.device})
			var wrong *Error
			if !errors.As(err, &wrong) || !strings.Contains(wrong.Message, c.want) ||
				!strings.Contains(wrong.Hint, c.hint) {
				t.Errorf("%v, want %q (%q)", err, c.want, c.hint)
			}
		})
	}
	dir := written(t, map[string]string{"a.json": good})
	if err := os.Chmod(filepath.Join(dir, "a.json"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Read([]string{dir}, []string{"0"}); err == nil ||
		!strings.Contains(err.Error(), "others than root can write it") {
		t.Errorf("a file that all can write: %v", err)
	}
}

// TestSoname: a library is found by the name that programs ask for.
func TestSoname(t *testing.T) {
	found := 0
	for _, file := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"} {
		if _, err := os.Stat(file); err == nil {
			if found++; soname(file) != "libc.so.6" {
				t.Errorf("%s: %q", file, soname(file))
			}
		}
	}
	if found == 0 {
		t.Skip("no C library where Linux distributions have it")
	}
}

// FuzzParse: whatever a file holds, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add(described("/x"))
	f.Add(`{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"0","containerEdits":{"hooks":[{"args":["--link"]}]}}]}`)
	f.Add(`{"kind":1}`)
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		s, err := parse([]byte(text))
		if err != nil || s.Kind != Kind {
			return
		}
		var e editor
		for _, edits := range append([]containerEdits{s.Edits}, editsOf(s.Devices)...) {
			_ = e.take("x", edits) // an error is as good
		}
		for _, m := range e.done().Mounts {
			if !filepath.IsAbs(m.Host) || m.Inside != filepath.Clean(m.Inside) || m.Inside == "/" {
				t.Errorf("%+v", m)
			}
		}
	}))
}
