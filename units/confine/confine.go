// Package confine knows the limits that the engine's unit puts on a pool file: a transient unit of
// systemd loses some characters in its properties, hides most of the host's file system, and sets
// some environment variables itself.
//
// It is pure and knows no unit properties: units/render writes those. units/config applies the same
// checks to pool files, so that `poolctl check` rejects what rendering would reject.
package confine

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// Variables of an engine's environment that the unit sets.
const (
	EnvVisible     = "CUDA_VISIBLE_DEVICES"
	EnvDeviceOrder = "CUDA_DEVICE_ORDER"
	EnvHome        = "HOME"
	EnvCache       = "XDG_CACHE_HOME"
)

// managedVariables returns the variables that a pool's env may not set, since the unit does, and
// what to do instead.
func managedVariables() map[string]string {
	return map[string]string{
		EnvVisible:     "set the key devices",
		EnvDeviceOrder: "leave it out: devices are numbered by PCI bus",
		EnvHome:        "leave it out: the engine's home is its state directory",
		EnvCache:       "leave it out: the engine has a cache directory of its own",
	}
}

// Refusals returns everything in a pool file that its engine or its unit cannot support. An
// external engine has no unit and no such limits.
func Refusals(p pool.Pool, a engine.Adapter) []pool.Refusal {
	if p.Provisioning.Mode == pool.ModeExternal {
		return nil
	}
	return slices.Concat(a.Check(p), paths(p), arguments(p), brought(p), variables(p), healthPath(p), network(p, a),
		apiKey(p, a))
}

func paths(p pool.Pool) []pool.Refusal {
	const renameIt = "Rename the file or directory."
	var refused []pool.Refusal
	if why := Path(p.Model.Path()); why != "" && p.Model.Scheme() == "file" {
		refused = append(refused, pool.Refuse("model", renameIt, "model %q %s", p.Model, why))
	}
	binary := p.Provisioning.Binary
	if why := unfit(binary); why != "" {
		refused = append(refused, pool.Refuse("provisioning.binary", "Rename it.", "provisioning.binary %s", why))
	} else if p.Provisioning.Mode != pool.ModeContainer && Within(path.Clean(binary), HiddenTrees()) != "" {
		if why := Path(path.Dir(path.Clean(binary))); why != "" {
			refused = append(refused, pool.Refuse("provisioning.binary", renameIt, "provisioning.binary %q %s", binary,
				why))
		}
	}
	return refused
}

func arguments(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	for i, arg := range p.Args {
		if why := unfit(arg); why != "" {
			key := fmt.Sprintf("args[%d]", i)
			refused = append(refused, pool.Refuse(key, "Correct args.", "%s %s", key, why))
		}
	}
	return refused
}

func variables(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	managed := managedVariables()
	all := p.Variables()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		key, where := p.Variable(name)
		if instead, ok := managed[name]; ok {
			refused = append(refused, pool.Refuse(key, "Remove it from "+where+" and "+instead+".",
				"%s holds %s, which pool-managerd sets itself", where, name))
		}
		if slices.Contains(relax.UnifiedMemoryVariables(), name) &&
			!slices.Contains(p.Sandbox.Allow, relax.UnifiedMemory) {
			hint := fmt.Sprintf("Remove it, or consent by [sandbox] allow = [%q].", relax.UnifiedMemory)
			refused = append(refused, pool.Refuse(key, hint,
				"%s holds %s, whose every value lets CUDA move what does not fit into the GPU to main memory",
				where, name))
		}
		if !variableName(name) {
			refused = append(refused, pool.Refuse(key, "Use letters, digits and underscores, no digit first.",
				"env key %q is no name of a variable", name))
		} else if why := unfit(all[name]); why != "" {
			refused = append(refused, pool.Refuse(key, "Correct "+where+".", "variable %s of %s %s", name, where, why))
		}
	}
	return refused
}

func healthPath(p pool.Pool) []pool.Refusal {
	asked := p.Health.Path
	if asked == "" || asked[0] == '/' && !strings.ContainsFunc(asked, isBlank) {
		return nil
	}
	return []pool.Refusal{pool.Refuse("health.path", "Begin it with a slash and leave out spaces.",
		"health.path %q is no path of a URL", asked)}
}

// Path returns why a path cannot be mounted for an engine; "": it can. A transient unit loses such
// characters in BindReadOnlyPaths= at a daemon-reload (seen on 252, 257 and 262), and 257 cannot
// mount a path with quotes at all.
func Path(p string) string {
	if unfit(p) == "" && !strings.ContainsFunc(p, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`:"'\`, r)
	}) {
		return ""
	}
	return "holds a space, a colon, a quote, a backslash or a control character: such a path is lost from the unit " +
		"at the next daemon-reload"
}

// unfit returns why a text cannot be sent over D-Bus; "": it can.
func unfit(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsRune(s, 0):
		return "holds a NUL character"
	}
	return ""
}

func variableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Variable reports whether a unit can hold a variable.
func Variable(name, value string) bool {
	return variableName(name) && unfit(value) == "" && !strings.ContainsFunc(value, func(r rune) bool {
		return r < ' ' && r != '\t' || r == 0x7f
	})
}

func isBlank(r rune) bool { return r <= ' ' || r == 0x7f }

// network refuses a pool without a network whose engine cannot serve so, or whose probe would prove
// nothing.
func network(p pool.Pool, a engine.Adapter) []pool.Refusal {
	const key, useLoopback = "sandbox.network", `Set network = "loopback" in [sandbox], or leave it out.`
	switch {
	case p.Sandbox.Network != pool.NetworkNone:
		return nil
	case a.UnixSocket(p, "") == engine.SocketNever:
		return []pool.Refusal{pool.Refuse(key, useLoopback,
			"[sandbox] network is none, and engine %q cannot serve on a unix socket", p.Engine)}
	case p.Health.Probe == pool.ProbeTCP:
		return []pool.Refusal{pool.Refuse(key, "Use probe http or grpc in [health]. "+useLoopback,
			"[sandbox] network is none, and PID 1 accepts its connections: probe tcp would always succeed")}
	}
	return nil
}
