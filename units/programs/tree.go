package programs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// tree looks at a file system, follows its links itself, and counts the lookups. Its paths are
// absolute.
type tree struct {
	fsys    fs.ReadLinkFS
	lookups int
	reals   map[string]real // of folders and files
}

// real is where a path leads to.
type real struct {
	path string
	err  error
}

func newTree(fsys fs.ReadLinkFS) *tree {
	return &tree{fsys: fsys, reals: map[string]real{"/": {path: "/"}}}
}

// exhausted reports whether so much was looked up that what was not found proves nothing.
func (t *tree) exhausted() bool { return t.lookups >= maxLookups }

// real returns the path without links of what a path leads to.
func (t *tree) real(p string) (string, error) { return t.follow(p, 0) }

func (t *tree) follow(p string, hops int) (string, error) {
	if known, ok := t.reals[p]; ok {
		return known.path, known.err
	}
	to, err := t.step(p, hops)
	t.reals[p] = real{to, err}
	return to, err
}

func (t *tree) step(p string, hops int) (string, error) {
	switch {
	case !path.IsAbs(p) || len(p) > maxElement || hops > maxHops:
		return "", fmt.Errorf("%s: %w", p, fs.ErrInvalid)
	case t.exhausted():
		return "", errTooMany
	}
	t.lookups++
	dir, err := t.follow(path.Dir(p), hops)
	if err != nil {
		return "", err
	}
	at := path.Join(dir, path.Base(p))
	target, err := t.fsys.ReadLink(name(at))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "", err
	case err != nil: // no link
		if _, err := t.fsys.Lstat(name(at)); err != nil {
			return "", err
		}
		return at, nil
	}
	return t.along(dir, target, hops+1)
}

// along follows a link's target from a real folder. As for the kernel, ".." is the folder above the
// one that was reached, not the name before it.
func (t *tree) along(dir, target string, hops int) (at string, err error) {
	at = dir
	if path.IsAbs(target) {
		at = "/"
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			at = path.Dir(at)
		default:
			if at, err = t.follow(path.Join(at, part), hops); err != nil {
				return "", err
			}
		}
	}
	return at, nil
}

// next returns where a link in a real folder leads, by the names in its target where ".." follows
// none of them.
func (t *tree) next(dir, target string) string {
	named := target
	for strings.HasPrefix(named, "../") { // from the real folder
		named = strings.TrimLeft(named[len("../"):], "/")
	}
	if strings.Contains("/"+named+"/", "/../") {
		folder, file := path.Split(target)
		if real, err := t.along(dir, folder, 0); err == nil {
			return path.Join(real, file)
		}
	}
	if path.IsAbs(target) {
		return path.Clean(target)
	}
	return path.Join(dir, target)
}

// chain returns a path and what it leads to, link by link, then the path without links. A relative
// link has two readings where a folder above it is a link: by the names, as in a sandbox that binds
// the folder under its name, and by the real folder, as on the host.
func (t *tree) chain(p string) []string {
	all := []string{p}
	for at := p; len(all) <= 2*maxHops; {
		dir, err := t.real(path.Dir(at))
		if err != nil {
			break
		}
		target, err := t.fsys.ReadLink(name(path.Join(dir, path.Base(at))))
		if err != nil || target == "" {
			break
		}
		if named := path.Join(path.Dir(at), target); !path.IsAbs(target) && t.exists(named) {
			all = append(all, named)
		}
		at = t.next(dir, target)
		all = append(all, at)
	}
	if real, err := t.real(p); err == nil {
		all = append(all, real)
	}
	var once []string
	for _, p := range all {
		if !slices.Contains(once, p) {
			once = append(once, p)
		}
	}
	return once
}

// stat returns what a path leads to.
func (t *tree) stat(p string) (fs.FileInfo, error) {
	real, err := t.real(p)
	if err != nil {
		return nil, err
	}
	return t.fsys.Lstat(name(real))
}

func (t *tree) exists(p string) bool {
	_, err := t.real(p)
	return err == nil
}

// file reports whether a path leads to a regular file, and whether others may have all of the
// permissions in need.
func (t *tree) file(p string, need fs.FileMode) (is, open bool) {
	info, err := t.stat(p)
	if err != nil || !info.Mode().IsRegular() {
		return false, false
	}
	return true, info.Mode().Perm()&need == need
}

// open opens a regular file, given by its real path.
func (t *tree) open(real string) (fs.File, fs.FileInfo, error) {
	info, err := t.fsys.Lstat(name(real))
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() { // the open of a pipe would wait for its other end
		return nil, nil, fmt.Errorf("%s: %w", real, fs.ErrInvalid)
	}
	f, err := t.fsys.Open(name(real))
	return f, info, err
}

// name is a path as io/fs has it.
func name(p string) string {
	if p == "/" {
		return "."
	}
	return strings.TrimPrefix(p, "/")
}
