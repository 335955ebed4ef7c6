package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Binaries is what the names of binaries lead to: of pools, and of allowed_binaries. It is found
// out beside the rules of the policy, which do not look at the disk.
type Binaries struct {
	ways    map[string]binaries.Way // by binaryOf
	allowed []string                // what entries lead to, where only root could change that
}

// Binaries looks at the disk for what the pools execute. Without allowed_binaries that is not asked
// for.
func (p Policy) Binaries(pools []pool.Pool) Binaries {
	if p.AllowedBinaries == nil {
		return Binaries{}
	}
	found := Binaries{ways: make(map[string]binaries.Way)}
	for _, of := range pools {
		if mode := of.Provisioning.Mode; mode == pool.ModeExternal || mode == pool.ModeContainer {
			continue
		}
		name := binaryOf(of)
		if path := binaries.Find(name); path != "" {
			if way, err := binaries.Follow(path); err == nil {
				found.ways[name] = way
			}
		}
	}
	for _, entry := range p.AllowedBinaries {
		if way, err := binaries.Follow(entry); err == nil && way.Loose == "" && way.Real != filepath.Clean(entry) {
			found.allowed = append(found.allowed, way.Real+entry[len(strings.TrimRight(entry, "/")):])
		}
	}
	return found
}

// binaryOf is the binary as the pool names it, or that of its engine.
func binaryOf(of pool.Pool) string {
	if of.Provisioning.Binary != "" {
		return of.Provisioning.Binary
	}
	if a, ok := engine.For(of.Engine); ok {
		return a.DefaultBinary()
	}
	return ""
}

// RefuseExecuted returns why the policy forbids to execute a file, by its absolute path; nil: it
// does not. It looks at the disk.
func (p Policy) RefuseExecuted(path string) *registry.Failure {
	of := pool.Pool{Provisioning: pool.Provisioning{Mode: pool.ModeBinary, Binary: path}}
	return p.refuseBinary(of, p.Binaries([]pool.Pool{of}))
}

// refuseBinary decides by what is executed, if that is known: a name that leads to an allowed
// binary is one, and a link in an allowed folder that leads out of it is none. What is not known,
// because nothing is there or a request names it, is decided by its name, and again when the engine
// is prepared (RefuseExecuted).
func (p Policy) refuseBinary(of pool.Pool, found Binaries) *registry.Failure {
	mode, name := of.Provisioning.Mode, binaryOf(of)
	if mode == pool.ModeExternal || mode == pool.ModeContainer || p.AllowedBinaries == nil || name == "" {
		return nil
	}
	entries := slices.Concat(p.AllowedBinaries, found.allowed)
	way, known := found.ways[name]
	if !known {
		if !filepath.IsAbs(name) && len(p.AllowedBinaries) > 0 {
			return nil // no folder has it yet
		}
		way.Real = name
	}
	switch what := fmt.Sprintf("the binary %q", name); {
	case !listed(entries, way.Real):
		if way.Real != name {
			what += fmt.Sprintf(" is %q, which", way.Real)
		}
		return registry.Fail(registry.CodePolicyDenied, what+" is not allowed on this host",
			"Choose another, or "+allowBinary(p.AllowedBinaries, way.Real)+".")
	case way.Loose != "":
		return registry.Fail(registry.CodePolicyDenied,
			fmt.Sprintf("%s leads to %q by %s, which other users than root can change", what, way.Real, way.Loose),
			fmt.Sprintf("Name %q itself in [provisioning] binary, or run: %s", way.Real, way.Fix))
	}
	return nil
}

// allowBinary is how the list is to be changed; the whole line, if that is short.
func allowBinary(entries []string, path string) string {
	const most = 6
	if len(entries) > most || !filepath.IsAbs(path) {
		return "add its path to [policy] allowed_binaries in " + policyFile
	}
	return fmt.Sprintf("set allowed_binaries = [%s] under [policy] in %s, and reload", lineWith(entries, path),
		policyFile)
}

// lineWith is a list with one more entry, to be pasted: nothing of it is cut off.
func lineWith(entries []string, more string) string {
	line := make([]string, 0, len(entries)+1)
	for _, entry := range append(slices.Clone(entries), more) {
		line = append(line, strconv.Quote(entry))
	}
	return strings.Join(line, ", ")
}
