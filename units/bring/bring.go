// Package bring looks at the files that a pool brings along beside its model: those that it lists,
// and those that its arguments and variables name.
//
// It owns whether an engine could read them, and which files they are at a moment. It looks at the
// disk and reads no content but that of secrets and the beginning of weights. It must not
// know units, or what an engine does with a file.
package bring

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Found is what a pool's files were found to be.
type Found struct {
	Shown []string // paths that must be visible for the engine to read all of them
	Names []string // one for each file, another where its content may be another
	// Environment is what the pool's files of variables hold.
	Environment map[string]pool.FileVariable

	weights []weight
}

// weight is a file of weights that was found.
type weight struct {
	of   engine.File
	path string
	size int64
}

// Fault is why a file cannot be used.
type Fault struct {
	Key    string // what of the pool file names it, as engine.File has it
	Closed bool   // this process could not look: another may
	*registry.Failure
}

// Look finds the files of a pool. The error is a *registry.Failure about the first one that its
// engine could not read.
func Look(p pool.Pool) (Found, error) {
	var all Found
	variables, faults := Environment(p)
	if len(faults) > 0 {
		return Found{}, faults[0].Failure
	}
	p.FileEnv, all.Environment = variables, variables
	for _, f := range looked(p) {
		found, fault := look(f)
		if fault != nil {
			return Found{}, fault.Failure
		}
		all.Shown, all.Names = append(all.Shown, found.Shown...), append(all.Names, found.Names...)
		all.weights = append(all.weights, found.weights...)
	}
	names, fault := lookAtKey(p)
	if fault != nil {
		return Found{}, fault.Failure
	}
	all.Names = append(append(all.Names, names...), environmentNames(p)...)
	return all, nil
}

// Check returns a fault for each file of a pool that its engine could not read, or not write to.
func Check(p pool.Pool) []Fault {
	variables, faults := Environment(p)
	p.FileEnv = variables
	for _, f := range looked(p) {
		if found, fault := look(f); fault != nil {
			faults = append(faults, *fault)
		} else if fault := found.damaged(loadedBy(p)); fault != nil {
			faults = append(faults, *fault)
		}
	}
	if _, fault := lookAtKey(p); fault != nil {
		faults = append(faults, *fault)
	}
	return append(faults, unwritable(p)...)
}

// unwritable returns a fault for each path that a flag names for the engine to write to, and that
// it may not write to. A relative one is in its state directory.
func unwritable(p pool.Pool) (faults []Fault) {
	own := slices.Concat(confine.OwnTrees(), []string{"/tmp", "/var/tmp"}, p.Writable)
	for _, f := range engine.Written(p) {
		if !filepath.IsAbs(f.Path) || confine.Within(filepath.Clean(f.Path), own) != "" {
			continue
		}
		faults = append(faults, *fail(f, "Write a path without a / at its beginning, which is below its state "+
			"directory, or one in a directory that the key writable of the pool's file names. poolctl render "+
			p.ID+" shows what it may write to.",
			"is where the engine may not write"))
	}
	return faults
}

// Sources names everything that is looked at of a pool: another value means that Contents of the
// one say nothing of the other. What a file of variables names is looked at because of that file.
func Sources(p pool.Pool) string {
	p.FileEnv = nil
	text := string(p.Model)
	for _, f := range looked(p) {
		text += "\x00" + f.Path
	}
	if p.APIKeyFile != "" {
		text += "\x00key " + p.APIKeyFile
	}
	for _, path := range p.EnvFiles {
		text += "\x00env " + path
	}
	return text
}

// looked leaves out what the engine may write to, and so make itself.
func looked(p pool.Pool) []engine.File {
	own := append(confine.OwnTrees(), p.Writable...)
	return slices.DeleteFunc(engine.Brought(p), func(f engine.File) bool {
		return !filepath.IsAbs(f.Path) || confine.Within(f.Path, own) != ""
	})
}

// what is how messages name a file.
func what(f engine.File) string { return fmt.Sprintf("file %s of %s", f.Path, f.What()) }

// fail returns a fault of a file.
func fail(f engine.File, hint, format string, args ...any) *Fault {
	code := registry.CodeProvisionFailed
	if f.Weights {
		code = registry.CodeModelNotFound
	}
	return &Fault{Key: f.Key, Failure: registry.Fail(code, what(f)+" "+fmt.Sprintf(format, args...), hint)}
}

// loadedBy is the kind of weights that the pool's engine loads.
func loadedBy(p pool.Pool) engine.Weights {
	if a, ok := engine.For(p.Engine); ok {
		return a.Weights()
	}
	return engine.Anything
}

// look finds one file, or those of a directory.
func look(f engine.File) (Found, *Fault) {
	info, err := os.Stat(f.Path)
	switch {
	case err != nil:
		return Found{}, missing(f, f.Path, err)
	case info.IsDir():
		return inDirectory(f)
	}
	if fault := readable(f, f.Path, info); fault != nil {
		return Found{}, fault
	}
	found := Found{Shown: []string{f.Path}, Names: []string{Identity(f.Path, info)}}
	found.weigh(f, f.Path, info)
	if !f.Weights {
		return found, nil
	}
	parts, err := Parts(f.Path)
	if err != nil {
		return Found{}, inParts(f, err)
	}
	for _, part := range parts[1:] {
		info, err := os.Stat(part)
		if err != nil {
			return Found{}, missing(f, part, err)
		}
		if fault := readable(f, part, info); fault != nil {
			return Found{}, fault
		}
		found.Shown, found.Names = append(found.Shown, part), append(found.Names, Identity(part, info))
		found.weigh(f, part, info)
	}
	return found, nil
}

// inParts explains why the parts of weights, as of a draft model, could not be found.
func inParts(f engine.File, err error) *Fault {
	var failure *registry.Failure
	if !errors.As(err, &failure) {
		return missing(f, f.Path, err)
	}
	return &Fault{Key: f.Key, Failure: registry.Fail(failure.Code, f.What()+": "+failure.Message, failure.Hint)}
}

// missing explains why a path could not be looked at.
func missing(f engine.File, path string, err error) *Fault {
	in := ""
	if path != f.Path {
		in = fmt.Sprintf("has %s, which ", path)
	}
	if errors.Is(err, fs.ErrPermission) {
		fault := fail(f, "The manager is root without capabilities. Let others enter the folder: chmod o+x "+
			shell.Quote(ClosedAbove(path)), "%scannot be looked at: the manager cannot enter %s", in, ClosedAbove(path))
		fault.Closed = true
		return fault
	}
	if !errors.Is(err, fs.ErrNotExist) {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fail(f, "Name a file that can be read: namei -l "+shell.Quote(path), "%scannot be looked at: %v",
			in, err)
	}
	hint := "Copy it there; the pool starts by itself once it is. This shows the path: namei -l " + shell.Quote(path)
	if link, err := os.Readlink(path); err == nil {
		return fail(f, hint, "%sis a symbolic link to %s, which does not exist", in, link)
	}
	if above := Nearest(path); above != filepath.Dir(path) {
		return fail(f, hint, "%sdoes not exist; the path exists only up to %s", in, above)
	}
	return fail(f, hint, "%sdoes not exist", in)
}

// readable checks that the engine's user, which is dynamic and in no group, can read a regular
// file. The directories above do not matter to it: PID 1 binds the file itself.
func readable(f engine.File, path string, info fs.FileInfo) *Fault {
	in := ""
	if path != f.Path {
		in = fmt.Sprintf("has %s, which ", path)
	}
	if !info.Mode().IsRegular() {
		return fail(f, "Name the file itself: ls -ld "+shell.Quote(path),
			"%sis neither a file nor a directory (%s)", in,
			info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o004 == 0 {
		hint := cmp.Or(f.Instead, "The engine sees only this file: chmod o+r "+shell.Quote(path))
		return fail(f, hint, "%shas mode %04o: the engine runs as a dynamic user, which cannot read it%s", in, perm,
			listed(path))
	}
	return nil
}

// ClosedAbove returns the first folder on the way to a path that cannot be looked into.
func ClosedAbove(path string) string {
	for _, next := range parents(path) {
		// The trailing "/." asks for the right to enter next, not only for its existence.
		if _, err := os.Stat(next + "/."); errors.Is(err, fs.ErrPermission) {
			return next
		}
	}
	return filepath.Dir(path)
}

// Nearest returns the deepest folder above a path that exists.
func Nearest(path string) string {
	for _, dir := range slices.Backward(parents(path)) {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return "/"
}

// parents are the folders above a path, without the root, the highest first.
func parents(path string) []string {
	var all []string
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		all = append(all, dir)
	}
	slices.Reverse(all)
	return all
}
