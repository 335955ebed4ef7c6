package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

const imageAllowed = `a registry's host, a name, and a tag or digest, as "ghcr.io/org/name:tag"`

// imageType reads the name of an image.
func imageType() strict.Type[pool.Provisioning] {
	return strict.Type[pool.Provisioning]{Name: "string", Allowed: imageAllowed,
		Set: func(p *pool.Provisioning, v *strict.Value, at strict.At) {
			if v.Kind != strict.String {
				at.Wrong(v, imageAllowed, "Write it in quotes.")
				return
			}
			ref, err := modelref.ParseImage(v.Str)
			var wrong *modelref.Error
			if errors.As(err, &wrong) {
				at.Say(v, "is "+v.Describe()+", which "+wrong.Problem, imageAllowed, wrong.Hint)
				return
			}
			p.Image = strings.TrimPrefix(ref.String(), modelref.Image+":")
		}}
}

// runtimeType reads the name of what runs a container.
func runtimeType() strict.Type[pool.Provisioning] {
	allowed := strict.OneOf(pool.Runtimes())
	return strict.Type[pool.Provisioning]{Name: "string", Allowed: allowed,
		Set: func(p *pool.Provisioning, v *strict.Value, at strict.At) {
			switch {
			case v.Kind == strict.String && slices.Contains(pool.Runtimes(), v.Str):
				p.Runtime = v.Str
			case v.Kind == strict.String:
				at.Say(v, "is "+v.Describe(), allowed, "")
			default:
				at.Wrong(v, allowed, "Write it in quotes.")
			}
		}}
}

// runtimeWhole refuses what podman and docker cannot give an engine.
func runtimeWhole(d *draft, r *strict.Report) {
	podman, docker := d.Provisioning.Runtime == pool.RuntimePodman, d.Provisioning.Runtime == pool.RuntimeDocker
	if d.Provisioning.Mode != pool.ModeContainer || !podman && !docker ||
		r.Failed("provisioning.mode", "provisioning.runtime") {
		return
	}
	const hint = `Remove it, or set runtime = "systemd" in [provisioning].`
	for key, given := range map[string]bool{
		"env_file":           len(d.EnvFiles) > 0,
		"api_key_file":       d.APIKeyFile != "",
		"limits.nice":        docker && d.Process.Nice != 0,
		"limits.numa_policy": docker && d.Process.NUMAPolicy != "",
	} {
		if given {
			r.Rule(key+" is given, and [provisioning] runtime is "+strict.Quote(d.Provisioning.Runtime)+
				", which has no way to pass it", `it with runtime "systemd" only`, hint, key)
		}
	}
	if podman && d.Sandbox.Network == pool.NetworkNone {
		r.Rule(`sandbox.network is "none", and [provisioning] runtime is "podman", whose engines have the loopback`,
			strict.Quote(pool.NetworkLoopback), hint, "sandbox.network")
	}
}

// containerWhole requires the image of a container, and refuses one elsewhere.
func containerWhole(d *draft, r *strict.Report) {
	if r.Failed("provisioning.mode", "provisioning.image") {
		return
	}
	if d.Provisioning.Mode != pool.ModeContainer {
		if r.Has("provisioning.image") {
			r.Rule("provisioning.image is given and the mode is "+strict.Quote(d.Provisioning.Mode),
				`it in mode "container" only`, `Set mode = "container", or remove the line.`, "provisioning.image")
		}
		return
	}
	if d.Provisioning.Image == "" {
		r.Rule("provisioning.image is missing", imageAllowed,
			`Add below [provisioning]: image = "ghcr.io/org/name:tag"`, "provisioning.mode")
	}
}

// refuseDocker refuses an engine whose unit may connect to docker, which makes it root.
func (p Policy) refuseDocker(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode != pool.ModeContainer || of.Provisioning.Runtime != pool.RuntimeDocker || p.AllowDocker {
		return nil
	}
	return registry.Fail(registry.CodePolicyDenied,
		`[provisioning] runtime is "docker", which this host does not allow: the unit could have docker do anything as root`,
		`Remove runtime from the pool's file: PID 1 runs the same image without docker. Or set [policy] allow_docker = true in `+
			policyFile+".")
}

func (p Policy) refuseImage(of pool.Pool) *registry.Failure {
	if of.Provisioning.Mode != pool.ModeContainer {
		return nil
	}
	return p.refuseNamedImage(of.Provisioning.Image)
}

func (p Policy) refuseNamedImage(image string) *registry.Failure {
	if slices.ContainsFunc(p.AllowedImages, func(entry string) bool { return coversImage(entry, image) }) {
		return nil
	}
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the image %s is not allowed on this host", image),
		fmt.Sprintf("Set allowed_images = [%s] under [policy] in %s, and reload.", lineWith(p.AllowedImages, name),
			policyFile))
}

// coversImage reports whether an image lies under an entry of allowed_images: the entry itself, all
// below it behind a "/", or each tag and digest of a repository.
func coversImage(entry, image string) bool {
	rest, found := strings.CutPrefix(image, entry)
	switch {
	case !found || entry == "":
		return false
	case rest == "" || strings.HasSuffix(entry, "/") || rest[0] == '/':
		return true
	}
	// Behind a host, a colon begins its port.
	return strings.Contains(entry, "/") && (rest[0] == ':' || rest[0] == '@')
}
