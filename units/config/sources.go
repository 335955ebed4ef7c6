package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Weights that arguments and variables name beside the model, as a projector or an adapter, are
// models too: the policy about sources holds for them alike. What they name on another host the
// engine would download itself, and engines reach no other host whatever egress is.

// allowsSource reports whether a reference is from an allowed source.
func (p Policy) allowsSource(reference string) bool {
	return p.AllowedModelSources == nil ||
		slices.ContainsFunc(p.AllowedModelSources, func(s string) bool { return covers(s, reference) })
}

// weights are the files of a pool, beside its model, that are not from an allowed source.
func (p Policy) weights(of pool.Pool) (found []engine.File) {
	for _, f := range engine.Brought(of) {
		if f.IsModel() && !p.allowsSource(modelref.File+":"+f.Path) {
			found = append(found, f)
		}
	}
	return found
}

// remote is what a pool names on other hosts and may not: anything, unless its engine is to use its
// cache alone and the source is allowed.
func (p Policy) remote(of pool.Pool) []engine.File {
	offline := engine.Offline(of)
	return slices.DeleteFunc(engine.Remote(of), func(f engine.File) bool {
		return offline && p.allowsSource(sourceOf(f))
	})
}

// sourceOf is something on another host as a reference of a model.
func sourceOf(f engine.File) string {
	if strings.Contains(f.Path, "://") {
		return f.Path
	}
	return modelref.HF + ":" + f.Path
}

func (p Policy) forbiddenWeights(of pool.Pool) string { return keyOf(p.weights(of)) }
func (p Policy) forbiddenRemote(of pool.Pool) string  { return keyOf(p.remote(of)) }

func keyOf(files []engine.File) string {
	if len(files) == 0 {
		return ""
	}
	return files[0].Key
}

func (p Policy) refuseWeights(of pool.Pool) *registry.Failure {
	found := p.weights(of)
	if len(found) == 0 {
		return nil
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("%s is not from a source that this host allows for models%s", quoted(found[0]), andMore(found)),
		fmt.Sprintf("Move it, or add %q, or its folder with a \"/\" at the end, to [policy] allowed_model_sources "+
			"in %s.", modelref.File+":"+found[0].Path, policyFile))
}

func (p Policy) refuseRemote(of pool.Pool) *registry.Failure {
	found := p.remote(of)
	switch {
	case len(found) == 0:
		return nil
	case engine.Offline(of):
		return registry.Fail(registry.CodePolicyDenied,
			fmt.Sprintf("%s is not from a source that this host allows for models%s", quoted(found[0]), andMore(found)),
			fmt.Sprintf("Add %q to [policy] allowed_model_sources in %s.", sourceOf(found[0]), policyFile))
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("%s is on another host, and engines reach none%s", quoted(found[0]), andMore(found)),
		`The key model alone downloads (model = "hf:…"). Fetch this by other means, and name its file or directory by its `+
			"absolute path; or show the engine a filled cache by the key files, and have it use that alone "+
			"("+engine.OfflineBy+").")
}

// quoted is a file in a message, with what names it.
func quoted(f engine.File) string {
	if f.Path == f.Flag {
		return f.Key + ", " + f.Flag + ","
	}
	return fmt.Sprintf("%q of %s", f.Path, f.What())
}

func andMore(found []engine.File) string {
	if len(found) == 1 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", len(found)-1)
}
