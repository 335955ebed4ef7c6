package tree

import (
	"cmp"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPrograms builds the programs as the package does, and looks into the files. The daemon's unit
// forbids to execute anything but the daemon, so that not even a loader would run there. pool-gpu
// has to open NVIDIA's library, and is the exception.
func TestPrograms(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the programs")
	}
	dir := t.TempDir()
	program := func(name string) string { return filepath.Join(dir, "bin", "amd64", name) }
	build := exec.Command("make", "build", "DIST="+dir, "VERSION=1.2.3-tree", "GOARCH=amd64")
	build.Dir = root
	build.Env = append(os.Environ(), "GOFLAGS=", "GORACE=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	for _, name := range []string{"pool-managerd", "poolctl", "pool-gate", "pool-fetch", "pool-fleet"} {
		t.Run(name, func(t *testing.T) {
			file := stripped(t, program(name))
			for _, p := range file.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Errorf("%s has a %s segment: it is not static", name, p.Type)
				}
			}
		})
	}
	t.Run("methods", func(t *testing.T) { testNoMethodsByName(t, program("pool-managerd")) })
	t.Run("pool-gpu", func(t *testing.T) { testHelper(t, program("pool-gpu")) })
	help := func(name string, args ...string) string {
		out, err := exec.Command(program(name), append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s --help: %v\n%s", name, err, out)
		}
		return string(out)
	}
	t.Run("man_pool-gpu", func(t *testing.T) { testManFlags(t, "docs/man/pool-gpu.8", help("pool-gpu")) })
	t.Run("man_pool-fetch", func(t *testing.T) { testManFlags(t, "docs/man/pool-fetch.8", help("pool-fetch")) })
	t.Run("man_pool-fleet", func(t *testing.T) { testManFlags(t, "docs/man/pool-fleet.8", help("pool-fleet")) })
	t.Run("man_pool-managerd", func(t *testing.T) {
		testManFlags(t, "docs/man/pool-managerd.8", help("pool-managerd"))
	})
	for _, command := range []string{"list", "status", "render", "logs", "events", "drain", "resume", "restart",
		"reset", "reload", "check", "import", "explain", "version"} {
		t.Run("man_poolctl_"+command, func(t *testing.T) {
			testManFlags(t, "docs/man/poolctl.1", help("poolctl", command))
		})
	}
}

// testNoMethodsByName: no module looks methods up by name in the manager, whose linker would then
// keep every exported method of every type: a fifth of the program, of which much is resident.
func testNoMethodsByName(t *testing.T, name string) {
	info, err := buildinfo.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/json-iterator/go" || m.Path == "github.com/modern-go/reflect2" {
			t.Errorf("%s is linked: build with -tags stdjson", m.Path)
		}
	}
}

// stripped opens a program without debug information and without an executable stack.
func stripped(t *testing.T, name string) *elf.File {
	t.Helper()
	file, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	for _, p := range file.Progs {
		if p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0 {
			t.Errorf("%s has an executable stack", name)
		}
	}
	if file.Section(".debug_info") != nil || file.Section(".zdebug_info") != nil {
		t.Errorf("%s carries debug information", name)
	}
	return file
}

// testHelper: pool-gpu leaves NVML's symbols to their first call, so that it runs where no NVIDIA
// library is, and it needs no library but a libc that the oldest supported release has.
func testHelper(t *testing.T, name string) {
	file := stripped(t, name)
	for tag, bit := range map[elf.DynTag]uint64{elf.DT_FLAGS: uint64(elf.DF_BIND_NOW),
		elf.DT_FLAGS_1: uint64(elf.DF_1_NOW)} {
		flags, err := file.DynValue(tag)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(flags, func(f uint64) bool { return f&bit != 0 }) {
			t.Errorf("%s asks for all symbols at its start (%s): it would die wherever no driver is", name, tag)
		}
	}
	if now, err := file.DynValue(elf.DT_BIND_NOW); err != nil || len(now) > 0 {
		t.Errorf("%s has DT_BIND_NOW (%v)", name, err)
	}
	if file.Type != elf.ET_DYN {
		t.Errorf("%s is %s, not position-independent", name, file.Type)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(libraries, []string{"libc.so.6"}) {
		t.Errorf("%s needs %v, want libc alone: NVIDIA's library is opened when it runs", name, libraries)
	}
	testLibc(t, file)
	// The control: without symbols that wait for their first call, the checks above would mean
	// nothing.
	symbols, err := file.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if n := countPrefix(symbols, "nvml"); n < 100 {
		t.Errorf("%s leaves %d symbols of NVML open, want some hundred", name, n)
	}
	// Nothing of NVIDIA's can be found there.
	version := exec.Command(name, "--version")
	version.Env = []string{"LD_LIBRARY_PATH=" + t.TempDir()}
	if out, err := version.CombinedOutput(); err != nil || !strings.Contains(string(out), "1.2.3-tree") {
		t.Errorf("%s --version: %v\n%s", name, err, out)
	}
}

// oldestLibc is that of Debian 12, the oldest release that the package is tested on.
var oldestLibc = []int{2, 36}

func testLibc(t *testing.T, file *elf.File) {
	symbols, err := file.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		version, ok := strings.CutPrefix(s.Version, "GLIBC_")
		if !ok {
			continue
		}
		var numbers []int
		for part := range strings.SplitSeq(version, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				t.Fatalf("%s@%s: %v", s.Name, s.Version, err)
			}
			numbers = append(numbers, n)
		}
		if slices.CompareFunc(numbers, oldestLibc, cmp.Compare[int]) > 0 {
			t.Errorf("pool-gpu needs %s of %s: build packages on Debian 12, or they do not run there", s.Name,
				s.Version)
		}
	}
}

func countPrefix(symbols []elf.ImportedSymbol, prefix string) int {
	n := 0
	for _, s := range symbols {
		if strings.HasPrefix(s.Name, prefix) {
			n++
		}
	}
	return n
}

// TestNobodyElseLinksNVML: the layers forbid it file by file; this is about what is linked in the
// end.
func TestNobodyElseLinksNVML(t *testing.T) {
	t.Parallel()
	deps := func(program string) []string {
		list := exec.Command("go", "list", "-deps", "./cmd/"+program)
		list.Dir = root
		list.Env = append(os.Environ(), "CGO_ENABLED=1")
		out, err := list.Output()
		if err != nil {
			t.Fatalf("go list -deps ./cmd/%s: %v", program, err)
		}
		return strings.Fields(string(out))
	}
	const library = "github.com/NVIDIA/go-nvml/pkg/nvml"
	if !slices.Contains(deps("pool-gpu"), library) {
		t.Errorf("pool-gpu does not link %s: this test looks for the wrong name", library)
	}
	for _, program := range []string{"pool-managerd", "poolctl", "pool-gate", "pool-fetch"} {
		if slices.Contains(deps(program), library) {
			t.Errorf("%s links %s, and would die where the driver is sick", program, library)
		}
	}
}
