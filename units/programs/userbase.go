package programs

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// UserBase returns the folder of an installation by pip's --user or --prefix: the program is a
// script in its bin, the Python that runs it is elsewhere, and the modules are in its lib, where
// that Python looks only if PYTHONUSERBASE names the folder. It is empty for other programs.
func UserBase(fsys fs.ReadLinkFS, needs Needs) string {
	t := newTree(fsys)
	for _, script := range needs.Programs {
		base := path.Dir(path.Dir(script))
		if path.Base(path.Dir(script)) == "bin" && !python(script) && t.hasModules(base, needs.Programs) {
			return base
		}
	}
	return ""
}

// hasModules reports whether a folder has modules for one of the programs, a Python of elsewhere.
func (t *tree) hasModules(base string, programs []string) bool {
	for _, own := range []string{"pyvenv.cfg", "conda-meta", "bin/python3"} {
		if t.exists(path.Join(base, own)) {
			return false
		}
	}
	return slices.ContainsFunc(programs, func(p string) bool {
		return python(p) && t.exists(path.Join(base, "lib", path.Base(p), "site-packages"))
	})
}

// python reports whether a program is a Python by its name: "python3.13".
func python(program string) bool {
	version, ok := strings.CutPrefix(path.Base(program), "python")
	return ok && strings.Trim(version, "0123456789.") == ""
}
