package provision

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Preparer finds the engine. Its method may be called from many goroutines.
type Preparer struct {
	Store   *Store
	Capture Capture
	Gate    string // path of pool-gate
	Log     *slog.Logger
	Images  Images   // of containers; nil: there are none
	CDI     []string // directories with the files of the container device interface
	Etc     string   // directory with subuid and subgid; empty: /etc
	// Refuse returns why the host's policy forbids to execute a file; nil: it forbids none.
	Refuse func(binary string) *registry.Failure

	find     func(program string) string // overrides binaries.Find in tests
	docked   *docked                     // overrides the host's group and socket of docker in tests
	versions questions
	silent   silence
}

// docked looks for what docker needs.
type docked struct {
	group func(name string) (*user.Group, error)
	dial  func(ctx context.Context, path string) error
}

// Prepare finds the pool's binary, checks that it could be executed by the engine's user, and asks
// it for its version. The error is a *registry.Failure, or that of the context.
func (pr *Preparer) Prepare(ctx context.Context, p pool.Pool, a engine.Adapter) (pool.Prepared, error) {
	if p.Provisioning.Mode == pool.ModeContainer {
		return pr.container(ctx, p, a)
	}
	name := p.Provisioning.Binary
	if name == "" {
		name = a.DefaultBinary()
	}
	path, missing := binaries.Named(name, p.Engine)
	if missing != nil {
		return pool.Prepared{}, missing
	}
	if f := binaries.Executable(path); f != nil {
		return pool.Prepared{}, f
	}
	if pr.Refuse != nil {
		if f := pr.Refuse(path); f != nil {
			return pool.Prepared{}, f
		}
	}
	if f := binaries.Recognised(path); f != nil {
		return pool.Prepared{}, f
	}
	if f := binaries.Launched(path, []string{path}, p.Variables()); f != nil { // before its links are followed
		return pool.Prepared{}, f
	}
	path = notLinked(path)
	files := host()
	needs := programs.Resolve(files, path, p.Variables())
	if f := binaries.Launched(path, needs.Executed(), needs.Env); f != nil {
		return pool.Prepared{}, f
	}
	if err := pr.lacking(p, needs); err != nil {
		return pool.Prepared{}, err
	}
	if err := reachable(path, needs); err != nil {
		return pool.Prepared{}, err
	}
	if err := writable(p.Writable); err != nil {
		return pool.Prepared{}, err
	}
	prepared := pool.Prepared{Binary: path, Programs: needs.Programs, ReadOnly: companions(files, needs),
		Env: partsOf(files, needs)}
	if a.VersionArgs(prepared.Binary) != nil {
		var err error
		prepared.Version, err = pr.version(ctx, prepared, p, a, foreign(needs.Machine))
		if err != nil {
			return pool.Prepared{}, err
		}
	}
	switch given := p.Provisioning.Version; {
	case prepared.Version == "":
		prepared.Version = given
	case given != "" && given != prepared.Version:
		pr.Log.Warn("the engine's version is not the one that its preload names", "pool_id", p.ID, "engine_version",
			prepared.Version, "named", given, "binary", path)
	}
	return prepared, nil
}

// reachable checks the folders above the files of a binary as the engine's user passes them. In a
// hidden tree that is only the file's own folder, which PID 1 binds there; PID 1 creates the ones
// above it.
func reachable(binary string, needs programs.Needs) error {
	for _, p := range needs.Certain {
		dir := filepath.Dir(p)
		if personal(dir) || ofSystem(p) {
			continue
		}
		for above := dir; above != "/" && (above == dir || !hidden(p)); above = filepath.Dir(above) {
			info, err := os.Stat(above)
			if err == nil && info.Mode().Perm()&0o001 == 0 {
				return registry.Fail(registry.CodeProvisionFailed,
					fmt.Sprintf("binary %s: folder %s has mode %04o, and the engine's user cannot enter it for %s",
						binary, above, info.Mode().Perm(), filepath.Base(p)),
					"chmod o+rx "+shell.Quote(above))
			}
		}
	}
	return nil
}
