package provision

import (
	"debug/elf"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// dropIns are where an administrator changes the units of engines. Their variables may lead to
// libraries that are not found without them.
var dropIns = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"}

// lacking reports the first need of a pool's binary that is missing: the engine could not start.
func (pr *Preparer) lacking(p pool.Pool, needs programs.Needs) error {
	for _, m := range needs.Missing {
		f := failureOf(m)
		if m.Kind == programs.Library && foreign(needs.Machine) != "" {
			continue // PID 1 will not execute it, and that is what is wrong
		}
		if m.Kind == programs.Library && m.Closed == "" && changedByDropIns(dropIns, p) {
			pr.Log.Warn(f.Message+"; starting it anyway, since a drop-in of its unit may name the folder", "pool_id",
				p.ID, "library", m.Name, "needed_by", m.By)
			continue
		}
		return f
	}
	return nil
}

// changedByDropIns reports whether a drop-in changes the pool's units: one of its own, of all
// engines, or of more units still (systemd.unit(5)). Those of another pool change nothing here.
func changedByDropIns(roots []string, p pool.Pool) bool {
	units := []string{"pool-engine@.service", "pool-.service", "service"}
	for i := range p.Replicas {
		for side := range 2 {
			units = append(units, pool.Replica{Pool: p.ID, Index: i, Side: side}.Unit())
		}
	}
	for _, root := range roots {
		for _, unit := range units {
			files, _ := os.ReadDir(filepath.Join(root, unit+".d")) // most do not exist
			if slices.ContainsFunc(files, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".conf") }) {
				return true
			}
		}
	}
	return false
}

// failureOf describes what is missing: its name, what needs it, and where it was searched.
func failureOf(m programs.Missing) *registry.Failure {
	fail := func(hint, format string, args ...any) *registry.Failure {
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf(format, args...), hint)
	}
	if m.Closed != "" {
		return closed(m)
	}
	switch m.Kind {
	case programs.Loader:
		return fail("Install a build for this system; this shows what it was built for: file "+shell.Quote(m.By),
			"binary %s needs the dynamic loader %s, which does not exist", m.By, m.Name)
	case programs.Interpreter:
		if len(m.Searched) > 0 {
			return fail("Install it, or set PATH in [env]: "+binaries.SearchFor(m.Name),
				"script %s needs the interpreter %q, which is not in %s",
				m.By, m.Name, strings.Join(m.Searched, ", "))
		}
		return fail("Install the interpreter, or install the engine again: head -n 1 "+shell.Quote(m.By),
			"script %s needs the interpreter %q, which does not exist", m.By, m.Name)
	case programs.Program:
		if len(m.Searched) > 0 {
			return fail("Write its path in the script, or set PATH in [env]: "+binaries.SearchFor(m.Name),
				"script %s executes %s, which is not in %s", m.By, m.Name, strings.Join(m.Searched, ", "))
		}
		return fail("Correct the script, or install the engine again: grep -n "+shell.Quote(path.Base(m.Name))+" "+
			shell.Quote(m.By),
			"script %s executes %s, which does not exist", m.By, m.Name)
	}
	searched := "the folders of the system"
	if len(m.Searched) > 0 {
		searched = bring.Few(m.Searched) + ", and " + searched
	}
	return fail(libraryHint(m), "library %s, which %s needs, was not found; searched: %s", m.Name, m.By, searched)
}

func closed(m programs.Missing) *registry.Failure {
	mode, right := "unknown", "read"
	if info, err := os.Stat(m.Closed); err == nil {
		mode = fmt.Sprintf("%04o", info.Mode().Perm())
	}
	if m.Kind != programs.Library {
		right = "execute"
	}
	return registry.Fail(registry.CodeProvisionFailed,
		fmt.Sprintf("%s, which %s needs, has mode %s: the engine's user cannot %s it", m.Closed, m.By, mode, right),
		"chmod o+rx "+shell.Quote(m.Closed))
}

// libraryHint names the folder beside the program that has the library, or whose it is.
func libraryHint(m programs.Missing) string {
	by := m.By
	if real, err := filepath.EvalSymlinks(by); err == nil {
		by = real
	}
	dir := filepath.Dir(by)
	for _, d := range []string{".", "lib", "../lib", "../lib64"} {
		d = filepath.Join(dir, d)
		if _, err := os.Stat(filepath.Join(d, m.Name)); err == nil {
			return fmt.Sprintf("There is one in %s, seen by ls -l %s: [env] LD_LIBRARY_PATH = %q.", d,
				shell.Quote(filepath.Join(d, m.Name)), d)
		}
	}
	switch name, _, _ := strings.Cut(m.Name, ".so"); name {
	case "libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler":
		return "It belongs to the NVIDIA driver: install that; nvidia-smi shows whether it works."
	}
	return "Install the package that has it, or name its folder as [env] LD_LIBRARY_PATH: " + binaries.SearchFor(m.Name)
}

// foreign returns the architecture that a binary was built for if it is not this host's; "": it is,
// or it is unknown.
func foreign(m elf.Machine) string {
	own := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	if m == own || m == elf.EM_NONE || own == elf.EM_NONE {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(m.String(), "EM_"))
}
