package provision

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/confine"
)

// companions returns what an engine in a hidden tree needs to see: its folder, a lib folder beside
// a bin folder, and the whole of a Python environment, with the interpreter that this was made
// from, which may live in a home as well; and what the pool's variables name of libraries.
func companions(binary, interpreter string, env map[string]string) []string {
	need := searched(env)
	for _, program := range []string{binary, interpreter} {
		for _, p := range chain(program) {
			if hidden(p) {
				need = append(need, around(p)...)
			}
		}
	}
	slices.Sort(need)
	return slices.Compact(need)
}

// pathVariables name files and folders that the dynamic loader (ld.so(8)) and Python read before
// they run anything of the engine's own.
var pathVariables = []string{"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH"}

// searched returns what these variables name in hidden trees and exists there.
func searched(env map[string]string) []string {
	var found []string
	for _, name := range pathVariables {
		for _, p := range strings.FieldsFunc(env[name], func(r rune) bool { return strings.ContainsRune(":; ", r) }) {
			if p = filepath.Clean(p); filepath.IsAbs(p) && hidden(p) && exists(p) && !personal(p) {
				found = append(found, p)
			}
		}
	}
	return found
}

// chain returns a path and what it leads to, link by link: an engine that is started by a link
// looks for its files beside the link (Python), beside the target (the dynamic loader's $ORIGIN),
// or both.
func chain(path string) []string {
	if path == "" {
		return nil
	}
	all := []string{path}
	for at := path; len(all) <= maxHops; {
		target, err := os.Readlink(at)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		at = filepath.Clean(target)
		all = append(all, at)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil && !slices.Contains(all, real) {
		all = append(all, real)
	}
	return all
}

// around returns what belongs to one program.
func around(program string) []string {
	dir := filepath.Dir(program)
	up := filepath.Dir(dir)
	if exists(filepath.Join(up, "pyvenv.cfg")) {
		return []string{up}
	}
	if personal(dir) {
		libraries, _ := filepath.Glob(filepath.Join(dir, "lib*.so*"))
		return append(libraries, program)
	}
	need := []string{dir}
	if lib := filepath.Join(up, "lib"); filepath.Base(dir) == "bin" && isDir(lib) {
		need = append(need, lib)
	}
	return need
}

// personal reports whether a folder is a hidden tree itself or a user's home: of that, an engine
// sees only the program and the libraries beside it.
func personal(dir string) bool {
	return slices.Contains(confine.HiddenTrees(), dir) || filepath.Dir(dir) == "/home"
}

// hidden reports whether the engine's sandbox shows an empty folder in the path's place.
func hidden(path string) bool {
	return slices.ContainsFunc(confine.HiddenTrees(), func(tree string) bool { return below(path, tree) })
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
