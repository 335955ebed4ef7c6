package provision

import (
	"maps"
	"slices"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// versionProperties fence the question like an engine, and tighter: no network, no device, no
// state, little memory. Python engines import their whole framework to print a version, and it
// needs what it needs to run, the pool's variables included. The unit's time is bounded by
// RunCapture.
func versionProperties(gate string, args []string, prepared pool.Prepared, p pool.Pool) []systemd.Property {
	fixed := []string{"HOME=" + systemd.HelperScratch, "XDG_CACHE_HOME=" + systemd.HelperScratch,
		"CUDA_VISIBLE_DEVICES="}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		fixed = append(fixed, name+"="+p.Env[name]) // none of the three above: confine refuses them
	}
	var variables []string
	for _, name := range slices.Sorted(maps.Keys(prepared.Env)) {
		if _, own := p.Env[name]; !own {
			variables = append(variables, name+"="+prepared.Env[name])
		}
	}
	h := systemd.Helper{
		Description: "version of " + args[0], Slice: pool.Slice, Argv: args, Home: "tmpfs", Memory: 4 << 30, Tasks: 512,
		Environment: append(variables, fixed...), EnvironmentFiles: p.EnvFiles,
		Needs: systemd.Needs{Sockets: true, Generated: true, Scheduling: true},
	}
	if len(p.EnvFiles) > 0 { // whose variables win for PID 1; the engine is executed so, too
		h.Argv = []string{gate, "exec"}
		for _, assignment := range fixed {
			h.Argv = append(h.Argv, "--set", assignment)
		}
		h.Argv = append(append(h.Argv, "--"), args...)
	}
	if prepared.Image == nil {
		return append(h.Properties(), treeProperties(prepared.ReadOnly)...)
	}
	h.Home = "read-only" // the image's own
	return append(h.Properties(), rootProperties(gate, prepared.Image, len(p.EnvFiles) > 0)...)
}

// rootProperties have the question asked in an image.
func rootProperties(gate string, in *pool.Image, byGate bool) []systemd.Property {
	var binds []systemd.BindMount
	if byGate {
		binds = append(binds, systemd.BindMount{Source: gate, Destination: gate})
	}
	for _, m := range in.Driver { // a program may be linked with its libraries
		binds = append(binds, systemd.BindMount{Source: m.Host, Destination: m.Inside})
	}
	props := []systemd.Property{
		{Name: "RootDirectory", Value: in.Root},
		{Name: "MountAPIVFS", Value: true},
		{Name: "ReadOnlyPaths", Value: []string{"+/tmp", "+/var/tmp"}}, // "+": of the image
		{Name: "TemporaryFileSystem", Value: []systemd.PathOptions{{Path: confine.Run, Options: "ro"}}},
	}
	if len(binds) > 0 {
		props = append(props, systemd.Property{Name: "BindReadOnlyPaths", Value: binds})
	}
	return props
}

// emptied are the hidden trees that other properties replace: ProtectHome and PrivateTmp. /root is
// not among them, since ProtectHome=tmpfs makes it with a mode that a dynamic user cannot pass.
var emptied = []string{"/home", "/run/user", "/tmp", "/var/tmp"}

// treeProperties hide what an engine may not see either, and show the engine itself where it lives
// in such a tree.
func treeProperties(readOnly []string) []systemd.Property {
	var shut []string
	var props []systemd.Property
	for _, tree := range confine.HiddenTrees() {
		holds := tree == confine.Run || slices.ContainsFunc(readOnly, func(p string) bool { return below(p, tree) })
		switch {
		case slices.Contains(emptied, tree):
		case holds:
			props = append(props, systemd.Property{Name: "TemporaryFileSystem",
				Value: []systemd.PathOptions{{Path: tree, Options: "ro"}}})
		default:
			shut = append(shut, "-"+tree) // "-": where it exists
		}
	}
	props = append(props, systemd.Property{Name: "InaccessiblePaths", Value: shut})
	for _, p := range readOnly {
		if !hidden(p) {
			continue
		}
		props = append(props, systemd.Property{Name: "BindReadOnlyPaths",
			Value: []systemd.BindMount{{Source: p, Destination: p}}})
	}
	return props
}
