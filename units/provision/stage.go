package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Stager makes sure that a pool's model is there. Its method may be called from many goroutines.
type Stager struct {
	Store *Store
	Log   *slog.Logger
	// Verified is told of each digest that was compared: whether it matched, and "match", "mismatch" or "advisory" (none was given).
	Verified func(pass bool, reason, engine string)

	hashes  hashing
	advised sync.Map // identities for which the advisory line was logged
}

// Stage finds the model's files, checks that the engine's dynamic user can read them, and verifies the
// digest where one is given. Nothing is copied: the engine reads the files where they are. The error is a *registry.Failure.
func (s *Stager) Stage(ctx context.Context, p pool.Pool) (pool.Staged, error) {
	if p.Model == "" {
		return pool.Staged{}, nil
	}
	if p.Model.Scheme() != "file" {
		return pool.Staged{}, registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("model %s: the source %q is not available in this version", p.Model, p.Model.Scheme()),
			"Download the model, and name the file: model = \"file:/srv/models/…\".")
	}
	files, err := modelFiles(filepath.Clean(p.Model.Path()), p.Engine)
	if err != nil {
		return pool.Staged{}, err
	}
	staged := pool.Staged{Path: filepath.Clean(p.Model.Path())}
	for _, f := range files {
		staged.SizeBytes += f.info.Size()
		staged.Files = append(staged.Files, f.path)
	}
	if info, err := os.Stat(staged.Path); err == nil && info.IsDir() {
		staged.Files = []string{staged.Path}
	}
	if err := s.verify(ctx, p, files, &staged); err != nil {
		return pool.Staged{}, err
	}
	return staged, nil
}

// file is one regular file of a model.
type file struct {
	path string
	info fs.FileInfo
}

// modelFiles returns the model's files: the one that is named, the shards beside it, or those of a directory.
func modelFiles(path, engine string) ([]file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, notThere(path, err)
	}
	if info.IsDir() {
		if engine == pool.LlamaCpp {
			return nil, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s is a directory; llama.cpp loads a file", path),
				"Name the .gguf file in it; of a model in parts, the first part."+suggestion(filepath.Join(path, "x.gguf")))
		}
		return directoryFiles(path)
	}
	paths, err := shards(path)
	if err != nil {
		return nil, err
	}
	files := make([]file, 0, len(paths))
	for _, p := range paths {
		f, err := readableFile(p)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if engine == pool.LlamaCpp {
		return files, checkGGUF(files)
	}
	return files, nil
}

// readableFile checks one file: a regular one that the engine's user can read. That user is dynamic and
// in no group, so that only the mode for others counts. The directories above do not matter to it:
// PID 1 binds the file itself into the engine's view.
func readableFile(path string) (file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return file{}, notThere(path, err)
	}
	if !info.Mode().IsRegular() {
		return file{}, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s is no regular file (%s)", path, info.Mode().Type()),
			"Name the file that holds the weights.")
	}
	if info.Mode().Perm()&0o004 == 0 {
		return file{}, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s has mode %04o: the engine runs as a dynamic user, which cannot read it", path, info.Mode().Perm()),
			fmt.Sprintf("chmod o+r '%s'; only this file is shown to the engine, whatever is around it.", path))
	}
	if info.Size() == 0 {
		return file{}, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s is empty", path), "Copy the file again.")
	}
	return file{path, info}, nil
}

// directoryFiles walks a model directory, as vLLM and TGI take it.
func directoryFiles(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return notThere(path, err)
		}
		if d.IsDir() {
			return enterable(path, d)
		}
		f, err := readableFile(path)
		var failure *registry.Failure
		if errors.As(err, &failure) && d.Type().IsRegular() && emptyMarker(d) {
			return nil
		}
		if err == nil {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		return nil, registry.AsFailure(err, registry.CodeModelNotFound, "")
	}
	if len(files) == 0 {
		return nil, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model directory %s holds no file", dir), "Name the directory with the weights and config.json.")
	}
	return files, nil
}

// emptyMarker lets empty files pass in a directory, such as __init__.py.
func emptyMarker(d fs.DirEntry) bool {
	info, err := d.Info()
	return err == nil && info.Size() == 0
}

func enterable(path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return notThere(path, err)
	}
	if info.Mode().Perm()&0o005 != 0o005 {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model directory %s has mode %04o: the engine runs as a dynamic user, which cannot look into it", path, info.Mode().Perm()),
			fmt.Sprintf("chmod -R o+rX '%s'", path))
	}
	return nil
}

// notThere explains why a path could not be looked at.
func notThere(path string, err error) *registry.Failure {
	if errors.Is(err, fs.ErrPermission) {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s: the manager may not look into %s", path, closedAbove(path)),
			"The manager is root without capabilities: let others enter the folders above the model (chmod o+x), or move it to /srv/models.")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s: %v", path, errors.Unwrap(err)), "Name a file that can be read.")
	}
	hint := fmt.Sprintf("Copy the model there; the pool starts by itself once it is.%s", suggestion(path))
	if link, err := os.Readlink(path); err == nil {
		return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s is a symbolic link to %s, which does not exist", path, link), hint)
	}
	if above := nearest(path); above != filepath.Dir(path) {
		return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s does not exist; of its path only %s does", path, above), hint)
	}
	return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s does not exist", path), hint)
}

// nearest returns the deepest folder above a path that exists.
func nearest(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == "/" || dir == "." {
			return dir
		}
	}
}

// closedAbove returns the first folder on the way to a path that cannot be looked into.
func closedAbove(path string) string {
	at := "/"
	for _, name := range strings.Split(strings.Trim(filepath.Dir(path), "/"), "/") {
		next := filepath.Join(at, name)
		if _, err := os.Stat(filepath.Join(next, ".")); errors.Is(err, fs.ErrPermission) {
			return at
		}
		at = next
	}
	return at
}

// suggestion names up to three files of the same kind in the folder.
func suggestion(path string) string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == filepath.Ext(path) && len(names) < 3 {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " There is " + strings.Join(names, ", ") + "."
}
