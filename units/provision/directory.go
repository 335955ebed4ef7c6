package provision

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// maxModelFiles bounds a model directory: a large model has some hundred files, and a path that was
// cut short has the whole disk.
const maxModelFiles = 4096

// walk collects a model directory, as vLLM, TGI and Triton take it.
type walk struct {
	root   string   // without links
	files  []file   // in the order of their names
	beside []string // what links in the directory point to outside of it
	above  []string // real directories that the walk is in, against loops of links
}

// findInDirectory takes every file below a directory. Links are followed: a snapshot in the cache
// of Hugging Face's tools is a directory of links to files beside it, which the engine must see as
// well. Such links are relative, so the engine gets the directory's real path, not that of a link
// to it.
func findInDirectory(path string) (model, error) {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return model{}, bring.NoModel(path, err)
	}
	w := walk{root: root}
	if err := w.directory(root, ""); err != nil {
		return model{}, err
	}
	if !slices.ContainsFunc(w.files, func(f file) bool { return f.info.Size() > 0 }) {
		return model{}, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model directory %s contains no files", root),
			"Name the directory with the weights and config.json: find "+shell.Quote(filepath.Dir(root))+
				" -name config.json")
	}
	slices.Sort(w.beside)
	return model{path: root, files: w.files, shown: append([]string{root}, slices.Compact(w.beside)...)}, nil
}

func (w *walk) directory(path, name string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return bring.NoModel(path, err)
	}
	if slices.Contains(w.above, real) {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model directory %s: the link %s leads back to a directory above it", w.root, path),
			"Remove the link: rm "+shell.Quote(path))
	}
	if err := enterable(path); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return bring.NoModel(path, err)
	}
	w.above = append(w.above, real)
	defer func() { w.above = w.above[:len(w.above)-1] }()
	for _, e := range entries {
		if err := w.entry(filepath.Join(path, e.Name()), filepath.Join(name, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(path, name string, e fs.DirEntry) error {
	dir := e.IsDir()
	if e.Type() == fs.ModeSymlink {
		info, err := os.Stat(path)
		if err != nil {
			return bring.NoModel(path, err)
		}
		dir = info.IsDir()
		if err := w.link(path); err != nil {
			return err
		}
	}
	if dir {
		return w.directory(path, name)
	}
	info, err := bring.ModelFile(path)
	if err != nil {
		return err
	}
	if len(w.files) == maxModelFiles {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model directory %s contains more than %d files", w.root, maxModelFiles),
			"Name the directory of one model: find "+shell.Quote(w.root)+" -name config.json")
	}
	w.files = append(w.files, file{path, name, info})
	return nil
}

// maxHops is how many links may lead to one another: MAXSYMLINKS of the kernel
// (path_resolution(7)).
const maxHops = 40

// link notes what a link points to when that is not in the model's own directory. Of a link to a
// link, each step is noted: the engine takes the same steps.
func (w *walk) link(path string) error {
	for range maxHops {
		target, err := os.Readlink(path)
		if err != nil {
			return nil // the end of the chain, which is no link
		}
		if !filepath.IsAbs(target) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return bring.NoModel(path, err)
			}
			target = filepath.Join(dir, target)
		}
		path = filepath.Clean(target)
		if !below(path, w.root) {
			w.beside = append(w.beside, path)
		}
	}
	return nil
}

// below reports whether path is dir or in it, by their names.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func enterable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return bring.NoModel(path, err)
	}
	if info.Mode().Perm()&0o005 != 0o005 {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model directory %s has mode %04o: the engine runs as a dynamic user, which cannot enter it",
				path, info.Mode().Perm()),
			"chmod -R o+rX "+shell.Quote(path))
	}
	return nil
}
