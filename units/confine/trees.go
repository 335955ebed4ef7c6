package confine

import (
	"slices"
	"strings"
)

// ShutTrees are shut for every engine. Where something below one must be seen, an empty read-only
// file system takes the tree's place and the thing alone is bound into it.
func ShutTrees() []string {
	return []string{
		"/srv", "/mnt", "/media",
		"/etc/pool-managerd", "/run/pool-managerd", "/var/lib/pool-managerd", "/var/cache/pool-managerd",
		"/run/dbus",
	}
}

// ReplacedTrees are empty by other lines of the sandbox: ProtectHome= and PrivateTmp=.
func ReplacedTrees() []string { return []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"} }

// HiddenTrees returns the trees in which an engine sees nothing but what the unit binds into them:
// a binary below one needs a path in Prepared.ReadOnly that covers its libraries.
func HiddenTrees() []string { return slices.Concat(ShutTrees(), ReplacedTrees()) }

// Within returns the first of trees that is p or holds it, "" when none does.
func Within(p string, trees []string) string {
	for _, tree := range trees {
		if p == tree || strings.HasPrefix(p, strings.TrimSuffix(tree, "/")+"/") {
			return tree
		}
	}
	return ""
}
