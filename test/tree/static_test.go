package tree

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPrograms builds the programs as the package does, and looks into the files. The daemon's unit forbids to execute
// anything but the daemon, so that not even a loader would run there.
func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	dir := t.TempDir()
	build := exec.Command("make", "build", "DIST="+dir, "VERSION=1.2.3-tree", "GOARCH=amd64")
	build.Dir = root
	build.Env = append(os.Environ(), "GOFLAGS=", "GORACE=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	for _, name := range []string{"pool-managerd", "poolctl", "pool-gate"} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(dir, "bin", "amd64", name)
			file, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for _, p := range file.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Errorf("%s has a %s segment: it is not static", name, p.Type)
				}
				if p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0 {
					t.Errorf("%s has an executable stack", name)
				}
			}
			if file.Section(".debug_info") != nil || file.Section(".zdebug_info") != nil {
				t.Errorf("%s carries debug information", name)
			}
		})
	}
	help := func(name string, args ...string) string {
		out, err := exec.Command(filepath.Join(dir, "bin", "amd64", name), append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s --help: %v\n%s", name, err, out)
		}
		return string(out)
	}
	t.Run("man_pool-managerd", func(t *testing.T) { testManFlags(t, "docs/man/pool-managerd.8", help("pool-managerd")) })
	for _, command := range []string{"list", "status", "render", "logs", "check", "version"} {
		t.Run("man_poolctl_"+command, func(t *testing.T) { testManFlags(t, "docs/man/poolctl.1", help("poolctl", command)) })
	}
}
