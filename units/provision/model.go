package provision

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// file is one regular file of a model.
type file struct {
	path string // where it is read
	name string // relative to the model, as sha256sum lists it
	info fs.FileInfo
}

// model is what a model consists of.
type model struct {
	path   string   // what the engine gets
	files  []file   // all of it
	shown  []string // what must be bound for the engine to see all of it
	single bool     // one file: its digest is that of its content, not of a list
}

// loads is what an engine loads, and its kind for messages.
type loads struct {
	kind    string
	weights engine.Weights
}

// loadedBy asks the adapter of a kind; of one that is not known, anything may be loaded.
func loadedBy(kind string) loads {
	if a, ok := engine.For(kind); ok {
		return loads{kind, a.Weights()}
	}
	return loads{kind, engine.Anything}
}

// findModel returns the model's files: the one that is named, the shards beside it, or those of a
// directory. It follows links.
func findModel(path string, a loads) (model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return model{}, bring.NoModel(path, err)
	}
	if info.IsDir() {
		if a.weights == engine.GGUF {
			return model{}, registry.Fail(registry.CodeModelNotFound,
				fmt.Sprintf("model %s is a directory; engine %q loads a file", path, a.kind),
				"Name the .gguf file in it; of a model in parts, the first part."+
					bring.Suggestion(filepath.Join(path, "x.gguf"))+" All of them: find "+shell.Quote(path)+
					" -name '*.gguf'")
		}
		return findInDirectory(path)
	}
	paths, err := shards(path)
	if err != nil {
		return model{}, err
	}
	m := model{path: path, shown: paths, single: len(paths) == 1}
	for _, p := range paths {
		info, err := readable(p)
		if err != nil {
			return model{}, err
		}
		if info.Size() == 0 {
			return model{}, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s is empty", p),
				"Copy the file again: ls -l "+shell.Quote(p))
		}
		m.files = append(m.files, file{p, filepath.Base(p), info})
	}
	if a.weights == engine.GGUF {
		return m, checkGGUF(m.files)
	}
	return m, nil
}

// readable checks one file: a regular one that the engine's user can read. That user is dynamic and
// in no group, so that only the mode for others counts. The directories above do not matter to it:
// PID 1 binds the file itself into the engine's view.
func readable(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bring.NoModel(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s is not a regular file (%s)", path, info.Mode().Type()),
			"Name the file that holds the weights: ls -ld "+shell.Quote(path))
	}
	if info.Mode().Perm()&0o004 == 0 {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s has mode %04o: the engine runs as a dynamic user, which cannot read it", path,
				info.Mode().Perm()),
			"The engine sees only this file: chmod o+r "+shell.Quote(path))
	}
	return info, nil
}
