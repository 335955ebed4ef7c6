package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

const policyFile = "/etc/pool-managerd/config.toml"

// Refuse returns why the host's policy forbids a pool, nil if it does not. It is pure: it does not
// look at the disk, and what was found there about binaries is an argument.
func (h Host) Refuse(p pool.Pool, found Binaries) *registry.Failure {
	for _, rule := range h.policyRules(found) {
		f := rule.refuse(p)
		if f == nil {
			continue
		}
		if hint := preloadHints()[rule.key]; hint != "" && p.Preloaded() {
			return registry.Fail(f.Code, f.Message, hint)
		}
		return f
	}
	return nil
}

// preloadHints are what to do about rules that forbid a pool without a file, where that differs
// from what to do about a file.
func preloadHints() map[string]string {
	return map[string]string{
		"devices": "Name one in device_mask, or set require_gpu = false in " + policyFile + ".",
		"args":    "Remove it from flags, or set [policy] allow_agent_tools = true in " + policyFile + ".",
	}
}

// refusePreload is about pools of other programs alone. Which programs of the host such a request
// may execute is up to the administrator: without allowed_binaries it would be all of them.
func (p Policy) refusePreload(of pool.Pool) *registry.Failure {
	switch {
	case !of.Preloaded():
		return nil
	case !p.AllowPreload:
		return registry.Fail(registry.CodePolicyDenied, "this host takes no preloaded pools",
			"Set [policy] allow_preload = true and allowed_binaries in "+policyFile+", and reload.")
	case p.AllowedBinaries == nil:
		return registry.Fail(registry.CodePolicyDenied,
			"this host names no binaries that preloaded pools may run",
			fmt.Sprintf("Add allowed_binaries = [%q] under [policy] in %s, and reload.", of.Provisioning.Binary,
				policyFile))
	}
	return nil
}

// policyRule is one rule of the host's policy, about one key of a pool file.
type policyRule struct {
	key    string
	refuse func(pool.Pool) *registry.Failure
	named  func(pool.Pool) string // the key that is refused, where it is not always the same
}

func (h Host) policyRules(found Binaries) []policyRule {
	return []policyRule{
		{key: "allow_preload", refuse: h.Policy.refusePreload},
		{key: "devices", refuse: h.refuseCPU},
		{key: "model", refuse: h.Policy.refuseModel},
		{key: "prefetch", refuse: h.Policy.refusePrefetch},
		{key: "args", refuse: h.Policy.refuseWeights, named: h.Policy.forbiddenWeights},
		{key: "args", refuse: h.Policy.refuseRemote, named: h.Policy.forbiddenRemote},
		{key: "provisioning.binary", refuse: func(of pool.Pool) *registry.Failure {
			return h.Policy.refuseBinary(of, found)
		}},
		{key: "provisioning.image", refuse: h.Policy.refuseImage},
		{key: "provisioning.runtime", refuse: h.Policy.refuseDocker},
		{key: "sandbox.allow", refuse: h.Policy.refuseRelaxation},
		{key: "writable", refuse: h.Policy.refuseWritable},
		{key: "limits.memlock", refuse: h.Policy.refuseMemlock},
		{key: "args", refuse: h.Policy.refuseAgentTools},
	}
}

// denials returns a problem for each rule of the policy that forbids the pool of a file.
func (f *file) denials(h Host, found Binaries) []Problem {
	var denied []Problem
	for _, rule := range h.policyRules(found) {
		if no := rule.refuse(*f.pool); no != nil {
			key := rule.key
			if rule.named != nil {
				key = rule.named(*f.pool)
			}
			line, column := f.doc.PlaceOf(key, rule.key, "engine")
			denied = append(denied, Problem{File: f.path, Line: line, Column: column, Key: key, PoolID: f.id,
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

func (p Policy) refuseModel(of pool.Pool) *registry.Failure { return p.RefuseSource(string(of.Model)) }

func (p Policy) refusePrefetch(of pool.Pool) *registry.Failure {
	for _, model := range of.Prefetch {
		if f := p.RefuseSource(model); f != nil {
			return f
		}
	}
	return nil
}

// RefuseSource returns why the policy forbids a model or an image, by its reference; nil if it
// does not.
func (p Policy) RefuseSource(model string) *registry.Failure {
	if image, ok := strings.CutPrefix(model, modelref.Image+":"); ok {
		return p.refuseNamedImage(image)
	}
	if model == "" || p.allowsSource(model) {
		return nil
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the model %q is not from a source that this host allows", model),
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
