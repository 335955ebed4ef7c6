package provision

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/engine"
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
			return model{}, bring.NoFile(path, a.kind)
		}
		m, err := findInDirectory(path)
		if err != nil {
			return model{}, err
		}
		return m, undamaged(m.files, a.weights)
	}
	paths, err := bring.Parts(path)
	if err != nil {
		return model{}, err
	}
	m := model{path: path, shown: paths, single: len(paths) == 1}
	for _, p := range paths {
		info, err := bring.ModelFile(p)
		if err != nil {
			return model{}, err
		}
		m.files = append(m.files, file{p, filepath.Base(p), info})
	}
	return m, undamaged(m.files, a.weights)
}

// undamaged reports a file that does not hold weights: what a failed or unfinished download left.
// One of a directory may be empty, as a marker of a Python package is.
func undamaged(files []file, by engine.Weights) error {
	for _, f := range files {
		flaw := bring.Damaged(f.path, f.info.Size(), by)
		if flaw == nil || f.info.Size() == 0 && len(files) > 1 && !engine.HoldsWeights(f.name) {
			continue
		}
		code := registry.CodeProvisionFailed
		if f.info.Size() == 0 {
			code = registry.CodeModelNotFound
		}
		return registry.Fail(code, "model "+f.path+" "+flaw.Text, flaw.Hint)
	}
	return nil
}
