package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

const policyFile = "/etc/pool-managerd/config.toml"

// Refuse returns why the host's policy forbids a pool, nil if it does not. It is pure: it does not
// look at the disk.
func (h Host) Refuse(p pool.Pool) *registry.Failure {
	for _, rule := range h.policyRules() {
		if f := rule.refuse(p); f != nil {
			return f
		}
	}
	return nil
}

// policyRule is one rule of the host's policy, about one key of a pool file.
type policyRule struct {
	key    string
	refuse func(pool.Pool) *registry.Failure
}

func (h Host) policyRules() []policyRule {
	return []policyRule{{"devices", h.refuseCPU}, {"model", h.Policy.refuseModel},
		{"provisioning.binary", h.Policy.refuseBinary}, {"sandbox.allow", h.Policy.refuseRelaxation},
		{"writable", h.Policy.refuseWritable}, {"limits.memlock", h.Policy.refuseMemlock}, {"args", h.Policy.refuseAgentTools}}
}

// denials returns a problem for each rule of the policy that forbids the pool of a file.
func (f *file) denials(h Host) []Problem {
	var denied []Problem
	for _, rule := range h.policyRules() {
		if no := rule.refuse(*f.pool); no != nil {
			line, column := f.doc.PlaceOf(rule.key, "engine")
			denied = append(denied, Problem{File: f.path, Line: line, Column: column, Key: rule.key, PoolID: f.id,
				Message: no.Message, Hint: no.Hint})
		}
	}
	return denied
}

func (h Host) refuseCPU(p pool.Pool) *registry.Failure {
	if !h.RequireGPU || p.Provisioning.Mode == pool.ModeExternal { // the devices of its host are not ours
		return nil
	}
	for _, mask := range p.Devices {
		if len(mask) == 0 {
			return registry.Fail(registry.CodePolicyDenied,
				"the pool has no devices, and this host requires a GPU for each pool",
				"Name one in the pool's file, as devices = [0], or set require_gpu = false in "+policyFile+".")
		}
	}
	return nil
}

func (p Policy) refuseModel(of pool.Pool) *registry.Failure {
	if of.Model == "" || p.AllowedModelSources == nil {
		return nil
	}
	for _, source := range p.AllowedModelSources {
		if covers(source, string(of.Model)) {
			return nil
		}
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the model %q is not from a source that this host allows", of.Model),
		"Move the model, or add its source to [policy] allowed_model_sources in "+policyFile+".")
}

// covers reports whether a reference lies under a source: the source itself, or what follows it
// behind a "/" or a scheme's colon, so that "file:/srv/a" does not cover "file:/srv/ab". Of a
// repository, each revision and quantisation lies under it.
func covers(source, reference string) bool {
	rest, found := strings.CutPrefix(reference, source)
	return found && (rest == "" || strings.HasSuffix(source, "/") || strings.HasSuffix(source, ":") || rest[0] == '/' ||
		named(source) && (rest[0] == '@' || rest[0] == ':'))
}

// named reports whether a source is a repository's name, behind which "@" and ":" begin a revision
// and the like.
func named(source string) bool {
	return strings.HasPrefix(source, "hf:") || strings.HasPrefix(source, "oci:") && strings.Contains(source, "/")
}

func (p Policy) refuseBinary(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode == pool.ModeExternal || p.AllowedBinaries == nil || p.AllowsBinary(of.Provisioning.Binary) {
		return nil
	}
	if !filepath.IsAbs(of.Provisioning.Binary) {
		return registry.Fail(registry.CodePolicyDenied,
			"this host allows certain binaries only, and the pool names none by its path",
			`Write the absolute path in the pool's file, as [provisioning] binary = "/usr/bin/…".`)
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the binary %q is not allowed on this host", of.Provisioning.Binary),
		"Choose another, or add it to [policy] allowed_binaries in "+policyFile+".")
}

func (p Policy) refuseRelaxation(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode == pool.ModeExternal || p.AllowedRelaxations == nil {
		return nil
	}
	for _, name := range of.Sandbox.Allow {
		if !slices.Contains(p.AllowedRelaxations, name) {
			return registry.Fail(registry.CodePolicyDenied,
				fmt.Sprintf("the pool relaxes %q of the sandbox, which this host does not allow", name),
				fmt.Sprintf("Remove %q from [sandbox] allow of the pool's file, or add it to [policy] "+
					"allowed_relaxations in %s.", name, policyFile))
		}
	}
	return nil
}

func (p Policy) refuseWritable(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode == pool.ModeExternal || p.AllowedWritable == nil {
		return nil
	}
	for _, path := range of.Writable {
		if !listed(p.AllowedWritable, path) {
			return registry.Fail(registry.CodePolicyDenied,
				fmt.Sprintf("the pool's engine may not write to %q on this host", path),
				"Remove it from writable of the pool's file, or add it to [policy] allowed_writable in "+policyFile+".")
		}
	}
	return nil
}

func (p Policy) refuseMemlock(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode == pool.ModeExternal || of.Process.MemlockBytes == 0 || p.AllowedRelaxations == nil ||
		slices.Contains(p.AllowedRelaxations, relax.Mlock) {
		return nil
	}
	return registry.Fail(registry.CodePolicyDenied, "the pool locks memory, which this host does not allow",
		fmt.Sprintf("Remove [limits] memlock from the pool's file, or add %q to [policy] allowed_relaxations in %s.",
			relax.Mlock, policyFile))
}

func (p Policy) refuseAgentTools(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode == pool.ModeExternal || p.AllowAgentTools {
		return nil
	}
	tools := engine.AgentTools(of)
	if len(tools) == 0 {
		return nil
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the pool sets %s, by which every caller of its engine runs programs and reaches other services",
			strings.Join(tools, ", ")),
		"Remove it from the pool's file, or set [policy] allow_agent_tools = true in "+policyFile+".")
}

// AllowsBinary reports whether an absolute path may be run: an entry names it, or its folder with a
// "/" at the end. Symbolic links are not followed: a user who can create one below an allowed
// folder can create a binary there, too.
func (p Policy) AllowsBinary(path string) bool {
	if p.AllowedBinaries == nil {
		return true
	}
	return listed(p.AllowedBinaries, path)
}

// listed reports whether an absolute path is in a list of paths and folders.
func listed(entries []string, path string) bool {
	if !filepath.IsAbs(path) {
		return false
	}
	path = filepath.Clean(path)
	for _, entry := range entries {
		folder := strings.HasSuffix(entry, "/")
		entry = filepath.Clean(entry)
		if folder && strings.HasPrefix(path, strings.TrimSuffix(entry, "/")+"/") || !folder && path == entry {
			return true
		}
	}
	return false
}
