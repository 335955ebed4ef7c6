// Package disk bounds what engines write to the host's disk: it counts what their directories hold,
// says when that is too much, and decides when to count again.
//
// It owns the numbers and the rules. It must not stop an engine (package supervise) or start a unit
// (cmd/pool-managerd): the manager may not read an engine's directories, so that Walk runs in a
// unit of its own (pool-gate disk), and Parse reads what it printed.
package disk

import (
	"math"

	"golang.org/x/sys/unix"
)

// Off is the bound of an engine that has none.
const Off = math.MaxUint64

// The bound of a pool that names none: most, or a part of the file system, if that is less.
const (
	defaultMost  = 32 << 30
	defaultShare = 4
)

// scarce is the part of a file system below which it counts as nearly full.
const scarce = 20

// Usage is what an engine's directories hold.
type Usage struct {
	Bytes uint64 // on the disk, which for a file with holes is less than its length
	Files uint64
	More  bool // not everything was counted: too many files, or too deep
}

func (u Usage) add(v Usage) Usage {
	return Usage{Bytes: u.Bytes + v.Bytes, Files: u.Files + v.Files, More: u.More || v.More}
}

// Space is what a file system holds, and has left.
type Space struct{ Bytes, Free, Files, FreeFiles uint64 }

// SpaceOf asks the kernel. Free is what root may still use.
func SpaceOf(path string) (Space, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return Space{}, err
	}
	block := uint64(fs.Bsize)
	return Space{Bytes: fs.Blocks * block, Free: fs.Bfree * block, Files: fs.Files, FreeFiles: fs.Ffree}, nil
}

// Scarce reports whether bytes or files are nearly used up. Some file systems do not count files.
func (s Space) Scarce() bool {
	return s.Free < s.Bytes/scarce || s.FreeFiles < s.Files/scarce
}

// Report is one counting of all engines.
type Report struct {
	Of    map[string]Usage // by the name of an engine's directories
	Space Space            // of the file system of the state directories
	Full  bool             // that one, or the one of the cache directories, is nearly full
}

// Bound is how much an engine's directories may hold: as its pool asks, 0 being the default, on a
// file system of that size.
func Bound(asked, size uint64) uint64 {
	switch {
	case asked != 0:
		return asked
	case size == 0:
		return defaultMost
	}
	return min(defaultMost, size/defaultShare)
}

// Verdict is what follows from a usage.
type Verdict int

// The verdicts.
const (
	Within  Verdict = iota
	Over            // it is reported; the engine goes on
	FarOver         // the engine is stopped, and not started again
)

// Evaluate compares a usage with its bound. An engine is stopped at twice its bound, or above it
// where the disk is nearly full, and may start again only when it is within the bound (stopped):
// one byte over must not stop an engine that serves, and two bytes less not start one that fills
// the disk.
func Evaluate(u Usage, bound uint64, full, stopped bool) Verdict {
	over := bound != Off && (u.Bytes > bound || u.More)
	switch {
	case !over:
		return Within
	case full, stopped, u.Bytes/2 > bound:
		return FarOver
	}
	return Over
}
