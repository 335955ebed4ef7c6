package engine

import (
	"strconv"

	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// release is the first version with some property.
type release struct{ major, minor int }

var releaseNumber = pattern.Lazy(`^v?(\d{1,6})\.(\d{1,6})(?:\D|$)`)

// compare reports whether a version is known, and whether it is this release or a later one.
func (r release) compare(version string) (known, reached bool) {
	m := releaseNumber().FindStringSubmatch(version)
	if m == nil {
		return false, false
	}
	major, _ := strconv.Atoi(m[1]) // of at most six digits: no error
	minor, _ := strconv.Atoi(m[2])
	return true, major > r.major || major == r.major && minor >= r.minor
}

// reached reports whether a version is known to be this release or a later one.
func (r release) reached(version string) bool {
	_, reached := r.compare(version)
	return reached
}

// before reports whether a version is known to be older than this release.
func (r release) before(version string) bool {
	known, reached := r.compare(version)
	return known && !reached
}
