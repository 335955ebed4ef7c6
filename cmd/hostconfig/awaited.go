package hostconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
)

// awaited returns a warning for each model and each program that a pool would wait for. Of an image
// the program is not looked for.
func awaited(pools []pool.Pool) []Problem {
	launched := make(map[string]*registry.Failure)
	var warnings []Problem
	for _, p := range pools {
		if f := noModel(p); f != nil {
			warnings = append(warnings, config.Locate(p, "model", f.Message, f.Hint))
		}
		if f := noProgram(p, launched); f != nil {
			warnings = append(warnings, config.Locate(p, "provisioning.binary", f.Message, f.Hint))
		}
	}
	return warnings
}

// noModel is why a model that is a path of this host cannot be loaded; nil: it is there and looks
// like one, or it is fetched.
func noModel(p pool.Pool) *registry.Failure {
	path, local := strings.CutPrefix(string(p.Model), "file:")
	if !local {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		if onlyForRoot(err) {
			return nil
		}
		return bring.NoModel(path, err)
	}
	a, known := engine.For(p.Engine)
	var f *registry.Failure
	if known && errors.As(bring.UnusableModel(path, a.Weights(), p.Engine), &f) {
		return f
	}
	return nil
}

// noProgram is why the program of a pool cannot be executed; nil: it can, as far as that is seen
// without asking it. launched has the results of former pools, most of which share a few programs.
func noProgram(p pool.Pool, launched map[string]*registry.Failure) *registry.Failure {
	adapter, known := engine.For(p.Engine)
	if !known || p.Provisioning.Mode == pool.ModeContainer {
		return nil
	}
	name := p.Provisioning.Binary
	if name == "" {
		name = adapter.DefaultBinary()
	}
	path, missing := binaries.Named(name, p.Engine)
	if missing != nil {
		return missing
	}
	if _, err := os.Stat(path); err != nil && onlyForRoot(err) {
		return nil
	}
	if f := binaries.Executable(path); f != nil {
		return f
	}
	if f := binaries.Recognised(path); f != nil {
		return f
	}
	key := fmt.Sprint(path, p.Variables())
	if _, known := launched[key]; !known {
		needs := programs.Resolve(os.DirFS("/").(fs.ReadLinkFS), path, p.Variables()) // os.DirFS promises it
		launched[key] = binaries.Launched(path, append([]string{path}, needs.Executed()...), needs.Env)
	}
	return launched[key]
}

// onlyForRoot reports whether an error shows nothing about the manager, since it is one of the
// rights of another user.
func onlyForRoot(err error) bool { return os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) }
