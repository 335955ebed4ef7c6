package confine

import (
	"slices"
	"strings"
)

// ShutTrees returns the trees that are inaccessible to every engine. If an engine needs something
// below one, the unit mounts an empty read-only file system over the tree and binds only that path
// into it.
func ShutTrees() []string {
	return []string{
		"/srv", "/mnt", "/media",
		"/etc/pool-managerd", "/run/pool-managerd", "/var/lib/pool-managerd", "/var/cache/pool-managerd",
	}
}

// Run is the runtime directory of the host. Engines have an empty one: the sockets in the host's
// lead to PID 1, to resolvers, to the message bus and to container engines.
const Run = "/run"

// ReplacedTrees returns the trees that other lines of the sandbox make empty: ProtectHome=,
// PrivateTmp= and the empty /run.
func ReplacedTrees() []string {
	return []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp", Run}
}

// HiddenTrees returns the trees in which an engine sees only what the unit binds into them: a
// binary below one needs a path in Prepared.ReadOnly that covers its libraries.
func HiddenTrees() []string { return slices.Concat(ShutTrees(), ReplacedTrees()) }

// Within returns the first of trees that is p or contains it, or "".
func Within(p string, trees []string) string {
	for _, tree := range trees {
		if p == tree || strings.HasPrefix(p, strings.TrimSuffix(tree, "/")+"/") {
			return tree
		}
	}
	return ""
}
