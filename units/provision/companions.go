package provision

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/programs"
)

// host is the host's file system.
func host() fs.ReadLinkFS {
	return os.DirFS("/").(fs.ReadLinkFS) // os.DirFS promises it
}

// companions returns what an engine needs to see outside of the trees of the system: its programs
// with what is around them, its libraries, and what the search paths name. Of each library the
// whole folder is shown: it holds those that the engine loads later, by name (dlopen).
func companions(files fs.ReadLinkFS, needs programs.Needs) []string {
	var need []string
	for _, p := range needs.Programs {
		if !ofSystem(p) {
			need = append(need, around(files, p)...)
		}
	}
	for _, p := range needs.Libraries {
		switch dir := filepath.Dir(p); {
		case ofSystem(p):
		case personal(dir):
			need = append(need, p)
		default:
			need = append(need, dir)
		}
	}
	for _, p := range needs.Folders {
		if !ofSystem(p) && !personal(p) {
			need = append(need, p)
		}
	}
	slices.Sort(need)
	var outer []string
	for _, p := range slices.Compact(need) {
		if !ofSystem(p) && confine.Within(p, outer) == "" {
			outer = append(outer, p)
		}
	}
	return outer
}

// partsOf returns the variables by which a program finds its own parts: the modules of pip's --user
// are searched in the home of the user who runs it, which an engine's user does not have.
func partsOf(files fs.ReadLinkFS, needs programs.Needs) map[string]string {
	if base := programs.UserBase(files, needs); base != "" && !ofSystem(base) && !personal(base) {
		return map[string]string{"PYTHONUSERBASE": base}
	}
	return nil
}

// around returns what belongs to one program.
func around(files fs.ReadLinkFS, program string) (need []string) {
	for _, dir := range programs.Around(files, program) {
		if !personal(dir) {
			need = append(need, dir)
			continue
		}
		libraries, _ := filepath.Glob(filepath.Join(filepath.Dir(program), "lib*.so*"))
		need = append(append(need, libraries...), program)
	}
	return need
}

// notLinked returns a path of the binary that is shown as it is. Of a hidden tree's or a home's own
// folder the engine sees single files: a link there would be a file, and the libraries that are
// searched beside its target ($ORIGIN) would not be found. So its target is executed. The folder
// may itself be behind a link, from either side: a home that is a link to another disk, or a link
// that leads into a home.
func notLinked(binary string) string {
	for range maxHops {
		target, err := os.Readlink(binary)
		if err != nil {
			return binary
		}
		dir := filepath.Dir(binary)
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || !personal(dir) && !personal(real) {
			return binary
		}
		next, err := besides(real, target)
		if err != nil {
			return binary
		}
		binary = next
	}
	return binary
}

// besides returns where a link in a real folder leads, by the names of the link where these say it:
// as the kernel does, ".." is the folder above the one that was reached, not the name before it.
func besides(real, target string) (string, error) {
	if !filepath.IsAbs(target) {
		target = real + "/" + target
	}
	at := strings.LastIndexByte(strings.TrimRight(target, "/"), '/')
	folder, name := target[:at+1], target[at+1:]
	clean := filepath.Clean(target)
	if !strings.Contains(folder+name+"/", "/../") {
		return clean, nil
	}
	reached, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return "", err
	}
	return filepath.Join(reached, name), nil
}

// personal reports whether a folder is a hidden tree itself or a user's home: of that, an engine
// sees only the program and the libraries beside it.
func personal(dir string) bool {
	return slices.Contains(confine.HiddenTrees(), dir) || filepath.Dir(dir) == "/home"
}

// ofSystem reports whether the path is in a tree that every engine sees.
func ofSystem(path string) bool {
	return confine.Within(path, confine.SystemTrees()) != "" && !hidden(path)
}

// hidden reports whether the engine's sandbox shows an empty folder in the path's place.
func hidden(path string) bool { return confine.Within(path, confine.HiddenTrees()) != "" }
