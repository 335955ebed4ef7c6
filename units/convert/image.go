package convert

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// image settles the engine of a container: its image, where another host can have it.
func (o *options) image() {
	name, found := registryName(o.l.box.image)
	if !found {
		fallback := o.d.adapter.DefaultBinary()
		if fallback == "" {
			fallback = replaceMe + "/server"
			o.d.set("provisioning", "binary", quoted(fallback), "")
		}
		o.l.left(o.l.at, "image %s: no registry has it; push it to one, and write [provisioning] "+
			"mode = \"container\" and image, or install the engine on this host (now: %s)", o.l.box.image, fallback)
		return
	}
	o.d.set("provisioning", "mode", quoted("container"), "")
	o.d.set("provisioning", "image", quoted(name), "")
	if o.l.box.entry != "" && o.l.box.entry != o.d.adapter.DefaultBinary() {
		o.d.set("provisioning", "binary", quoted(o.l.box.entry), "")
	}
	o.l.left(o.l.at, "image %s: it is downloaded, and runs without podman or docker, where [policy] allowed_images in "+
		"config.toml has it; a login is registry_auth_file there", name)
}

// registryName is an image's name with the host of its registry, which docker adds where there is
// none.
func registryName(name string) (full string, found bool) {
	name = strings.TrimPrefix(name, "docker://")
	first, _, several := strings.Cut(name, "/")
	switch {
	case name == "" || first == "localhost", strings.HasSuffix(name, ".image"), strings.HasSuffix(name, ".build"):
		return "", false
	case !several:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:"):
		name = "docker.io/" + name
	}
	if _, err := modelref.ParseImage(name); err != nil {
		return "", false
	}
	return name, true
}
