package confine

import (
	"path"
	"slices"
	"strings"
)

// SystemTrees are trees of programs, libraries and the kernel.
func SystemTrees() []string {
	return []string{
		"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/proc", "/sbin", "/sys", "/usr",
	}
}

// unwritableTrees returns the trees of which an engine may not write to anything: those of the
// system, and those whose owner trusts what is in them.
func unwritableTrees() []string {
	return slices.Concat(SystemTrees(), []string{
		Run, "/var/run", "/tmp", "/var/tmp", "/root", "/etc/pool-managerd", "/var/lib/pool-managerd", "/var/cache/pool-managerd",
		"/var/lib/pool-engine", "/var/cache/pool-engine", "/var/lib/private", "/var/cache/private", "/var/lib/systemd",
		"/var/lib/dpkg", "/var/lib/rpm", "/var/log/journal", "/var/spool/cron",
	})
}

// Unwritable returns why a path may not be writable for an engine; "": it may. A link on the way to
// it is not followed.
func Unwritable(p string) string {
	if p == "" || p[0] != '/' {
		return "is not an absolute path"
	}
	if why := Path(p); why != "" {
		return why
	}
	clean := path.Clean(p)
	if tree := Within(clean, unwritableTrees()); tree != "" {
		return "is in " + tree + ", which no engine may write to"
	}
	for _, tree := range slices.Concat(unwritableTrees(),
		[]string{"/srv/x", "/mnt/x", "/media/x", "/home/x", "/opt/x", "/var/x"}) {
		if clean == "/" || strings.HasPrefix(tree, clean+"/") {
			return "is a directory that holds more than one program's files"
		}
	}
	return ""
}
