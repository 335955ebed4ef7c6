package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// DebEnv names the environment variable with the path of the package to test; the Makefile sets it.
const DebEnv = "POOL_MANAGERD_DEB"

// newerVersion is the version of the package that an upgrade brings: the same source, and newer
// than any release.
const newerVersion = "999.0.0"

// Parts are the files that go into machines.
type Parts struct {
	Deb   string // the package to test
	Stub  string // the stand-in engine
	Model string // the generated GGUF model

	Hostile string // the hostile client of the API
	Hub     string // the imitation of a hub of models

	Orchestrator string // the imitation of an orchestrator's registry of nodes

	NVML    string // the fake libnvidia-ml.so.1
	FakeGPU string // the fake driver behind it
}

// Build makes the parts in dir. The package itself is the one that $POOL_MANAGERD_DEB names, or
// made as well.
func Build(ctx context.Context, dir string) (Parts, error) {
	p := Parts{Deb: os.Getenv(DebEnv), Stub: filepath.Join(dir, "stubengine"), Model: filepath.Join(dir, "tiny.gguf")}
	root, err := sourceRoot()
	if err != nil {
		return p, err
	}
	if p.Deb == "" {
		if p.Deb, err = makeDeb(ctx, root, filepath.Join(dir, "dist")); err != nil {
			return p, err
		}
	}
	if err := goBuild(ctx, root, p.Stub, "./test/stubengine"); err != nil {
		return p, err
	}
	p.Hostile = filepath.Join(dir, "hostileload")
	if err := goBuild(ctx, root, p.Hostile, "./test/bench/hostileload"); err != nil {
		return p, err
	}
	p.Hub = filepath.Join(dir, "hub")
	if err := goBuild(ctx, root, p.Hub, "./test/cmd/hub"); err != nil {
		return p, err
	}
	p.Orchestrator = filepath.Join(dir, "fakeorchestrator")
	if err := goBuild(ctx, root, p.Orchestrator, "./test/cmd/fakeorchestrator"); err != nil {
		return p, err
	}
	p.FakeGPU = filepath.Join(dir, "fakegpu")
	if err := goBuild(ctx, root, p.FakeGPU, "./test/fakegpu"); err != nil {
		return p, err
	}
	library := filepath.Join(dir, "nvml")
	if err := os.Mkdir(library, 0o755); err != nil {
		return p, err
	}
	if p.NVML, err = fakenvml.Build(ctx, library, false); err != nil {
		return p, err
	}
	return p, tinymodel.Write(p.Model, tinymodel.Options{})
}

// BuildNewer makes the same source as a package of a newer version, and returns its path.
func BuildNewer(ctx context.Context, dir string) (string, error) {
	root, err := sourceRoot()
	if err != nil {
		return "", err
	}
	return makeDeb(ctx, root, filepath.Join(dir, "newer"), "VERSION="+newerVersion)
}

// sourceRoot is the directory of go.mod, found from the working directory upwards.
func sourceRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory: run this inside the source tree")
		}
		dir = parent
	}
}

// makeDeb runs make deb with results below dist, and returns the package's path.
func makeDeb(ctx context.Context, root, dist string, variables ...string) (string, error) {
	args := append([]string{"-C", root, "deb", "DIST=" + dist, "TOOLS=" + filepath.Join(root, "dist", "tools")},
		variables...)
	if err := run(exec.CommandContext(ctx, "make", args...)); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dist, "pool-managerd_*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("make deb left %v in %s (%v), want one package", found, dist, err)
	}
	return found[0], nil
}

// goBuild builds a static program.
func goBuild(ctx context.Context, root, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return run(cmd)
}

// run runs a program; its output is in the error.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// Files are the parts where a machine has them, all but the package.
func (p Parts) Files() []machine.File {
	return []machine.File{
		{Guest: StubEngine, Host: p.Stub, Mode: 0o755},
		{Guest: TinyModel, Host: p.Model, Mode: 0o644},
		{Guest: Hub, Host: p.Hub, Mode: 0o755},
		{Guest: Orchestrator, Host: p.Orchestrator, Mode: 0o755},
		{Guest: fakeDriver, Host: p.FakeGPU, Mode: 0o755},
		{Guest: fakeLibrary, Host: p.NVML, Mode: 0o644},
	}
}

// Boot boots a machine with the stand-in engine and the model in it, and installs the package.
func Boot(ctx context.Context, cfg machine.Config, parts Parts) (*Host, error) {
	cfg.Files = append(cfg.Files[:len(cfg.Files):len(cfg.Files)], parts.Files()...)
	m, err := machine.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	h, err := Install(ctx, m, parts.Deb)
	if err == nil {
		err = h.Reset(ctx, Config)
	}
	if err != nil {
		return nil, errors.Join(err, errors.New(New(m).Story(ctx, time.Time{})), m.Close())
	}
	return h, nil
}
