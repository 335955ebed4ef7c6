package programs

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Around returns the folders that belong to a program, given by one of its paths: what it finds
// there by its own path and not by the loader, such as plugins that it loads later, or Python's
// modules.
func Around(fsys fs.ReadLinkFS, program string) []string {
	a := around{tree: newTree(fsys)}
	a.add(path.Clean(program), 0)
	return a.folders
}

type around struct {
	*tree
	folders []string
}

func (a *around) show(dirs ...string) {
	for _, dir := range dirs {
		if !slices.Contains(a.folders, dir) && a.exists(dir) {
			a.folders = append(a.folders, dir)
		}
	}
}

func (a *around) add(program string, depth int) {
	dir := path.Dir(program)
	up := path.Dir(dir)
	config := path.Join(up, "pyvenv.cfg")
	switch keg := keg(program); {
	case keg != "":
		a.show(keg)
	case a.exists(config):
		a.show(up)
		a.paths(up)
		// The environment has no standard library of its own: that is beside the Python that it was
		// made from.
		if home := a.home(config); home != "" && depth < maxNesting {
			a.add(path.Join(home, "python3"), depth+1)
		}
	case a.exists(path.Join(up, "conda-meta")):
		a.show(up)
	case path.Base(dir) == "bin":
		a.show(dir, path.Join(up, "lib"), path.Join(up, "lib64"), path.Join(up, "libexec"))
	default:
		a.show(dir)
	}
}

// keg returns the folder of one version of a Homebrew formula, PREFIX/Cellar/NAME/VERSION, that a
// path is in.
func keg(p string) string {
	const cellar = "/Cellar/"
	before, after, ok := strings.Cut(p, cellar)
	if parts := strings.SplitN(after, "/", 3); ok && len(parts) == 3 {
		return path.Join(before, cellar, parts[0], parts[1])
	}
	return ""
}

// home returns what pyvenv.cfg names as the folder of the Python that an environment was made from.
func (a *around) home(config string) string {
	for line := range strings.Lines(a.text(config)) {
		key, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(key) == "home" {
			if dir := path.Clean(strings.TrimSpace(value)); path.IsAbs(dir) {
				return dir
			}
		}
	}
	return ""
}

// paths shows the folders that the *.pth files of a Python environment name, as an installation
// that can be edited (pip install -e) has them.
func (a *around) paths(prefix string) {
	const most = 64 // folders, files in each that are read
	lib, err := a.entries(path.Join(prefix, "lib"))
	if err != nil {
		return
	}
	for _, version := range lib[:min(len(lib), most)] {
		packages := path.Join(prefix, "lib", version, "site-packages")
		if !strings.HasPrefix(version, "python") || !a.exists(packages) {
			continue
		}
		names, _ := a.entries(packages) // one that cannot be read names nothing
		names = slices.DeleteFunc(names, func(name string) bool { return path.Ext(name) != ".pth" })
		for _, name := range names[:min(len(names), most)] {
			for line := range strings.Lines(a.text(path.Join(packages, name))) {
				if dir := strings.TrimSpace(line); path.IsAbs(dir) && len(a.folders) < maxFolders {
					a.show(path.Clean(dir))
				}
			}
		}
	}
}

func (a *around) entries(dir string) (names []string, err error) {
	real, err := a.real(dir)
	if err != nil {
		return nil, err
	}
	list, err := fs.ReadDir(a.fsys, name(real))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

// text returns the beginning of a file, nothing where it cannot be read.
func (a *around) text(file string) string {
	real, err := a.real(file)
	if err != nil {
		return ""
	}
	raw, err := a.read(real, maxScript)
	if err != nil {
		return ""
	}
	return string(raw)
}
