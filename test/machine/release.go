package machine

import (
	"fmt"
	"slices"
	"strings"
)

// Release is a Debian release by its suite name, as apt spells it.
type Release string

// The releases that the tests run on, with the version of systemd that each brings.
const (
	Bookworm Release = "bookworm" // Debian 12, systemd 252
	Trixie   Release = "trixie"   // Debian 13, systemd 257
	Forky    Release = "forky"    // Debian testing, systemd 262, and a real llama-server
)

// Releases lists every known release, oldest first.
func Releases() []Release { return []Release{Bookworm, Trixie, Forky} }

// ParseRelease returns the release of that suite name; the error lists the known ones.
func ParseRelease(name string) (Release, error) {
	if r := Release(name); slices.Contains(Releases(), r) {
		return r, nil
	}
	return "", fmt.Errorf("unknown release %q; known are %v", name, Releases())
}

// SystemdVersion is the major version of systemd in the release.
func (r Release) SystemdVersion() int {
	switch r {
	case Bookworm:
		return 252
	case Trixie:
		return 257
	default:
		return 262
	}
}

// basePackages are in every root file system. From systemd 262 on, libseccomp2 and the libraries
// behind it are only recommended by systemd, and without them it skips the sandbox lines that need
// them: they are named here.
func basePackages() []string {
	return []string{
		"systemd", "systemd-sysv", "libnss-systemd", "dbus", "dbus-bin",
		"libseccomp2", "libacl1", "libbpf1", "libkmod2", "libpam0g", "libpam-modules", "libpam-runtime",
		"iproute2", "curl", "procps", "ca-certificates",
	}
}

// ownPackages are the packages that only this release has in its machines.
func (r Release) ownPackages() []string {
	if r == Forky {
		return []string{"llama.cpp-tools"}
	}
	return nil
}

// aptOptions are settings for apt while the release is built.
func (r Release) aptOptions() []string {
	if r == Forky {
		// A mirror may carry a testing release file that is past its date.
		return []string{`Acquire::Check-Valid-Until "false"`}
	}
	return nil
}

// Recipe is the content of a root file system. Two equal recipes share one cached root.
type Recipe struct {
	Release  Release
	Packages []string // Debian packages beyond those that every machine has
}

// packages is the whole package list, sorted, so that the order of Packages does not matter.
func (r Recipe) packages() []string {
	all := slices.Concat(basePackages(), r.Release.ownPackages(), r.Packages)
	slices.Sort(all)
	return slices.Compact(all)
}

// key identifies the content of the root file system: equal keys, equal recipes.
func (r Recipe) key() string {
	return contentKey(string(r.Release), strings.Join(r.packages(), ","), strings.Join(r.Release.aptOptions(), ","),
		customizeScript)
}
