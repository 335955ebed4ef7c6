package render

import (
	"strconv"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/image"
)

// stagedTemp is where the file system for /tmp and /var/tmp is mounted first on a host without
// PrivateTmpEx=.
const stagedTemp = image.Scratch

// StagingRoots are where a PID 1 before PrivateTmpEx= builds the file system of a unit, from 252
// on. It has made one of them as soon as one unit with a sandbox was started.
func StagingRoots() []string { return []string{"/run/systemd/unit-root", "/run/systemd/mount-rootfs"} }

// temporaryShare is the part of the host's memory that /tmp and /var/tmp of an engine may take
// together: that of PID 1 where it mounts them itself.
const temporaryShare = 10

// temporary is the row for /tmp and /var/tmp. PrivateTmp=yes leaves them on the host's disk (on
// 252, DynamicUser= does so by itself, and TemporaryFileSystem= of the same path has no effect
// beside it), where an engine could fill it.
func temporary(h Host) Line {
	const why = "private /tmp and /var/tmp, removed with the unit"
	if h.TemporaryInMemory {
		return Line{Section: sectionService, Key: "PrivateTmp", Text: "disconnected",
			Why: why + "; in memory, which counts for the engine, and of a tenth of the host's memory: " +
				"they cannot fill its disk",
			Property: systemd.Property{Name: "PrivateTmpEx", Value: "disconnected"}}
	}
	return yes("PrivateTmp", why)
}

// staging is where PID 1 builds the unit's file system, "" if /tmp is in memory without that or it
// is not known. It builds that of a unit with a root directory there (setup_namespace of systemd
// 252 to 256), but for the commands of root, which have none.
func staging(in Input) string {
	switch {
	case in.Host.TemporaryInMemory:
		return ""
	case in.Prepared.Image != nil:
		return in.Prepared.Image.Root
	default:
		return in.Host.StagingRoot
	}
}

// stagedTree is the file system that temporaryBinds binds over /tmp and /var/tmp.
func stagedTree(in Input) []Line {
	if staging(in) == "" {
		return nil
	}
	options := "mode=1777,nosuid,nodev,nr_inodes=400k"
	if size := in.Host.MemoryBytes / temporaryShare; size > 0 {
		options += ",size=" + strconv.FormatUint(size, 10) // in bytes, as in sharedMemory
	}
	return []Line{{Section: sectionService, Key: "TemporaryFileSystem",
		Text: escapeSpecifiers(stagedTemp + ":" + options),
		Why:  "/tmp and /var/tmp, see BindPaths: a tenth of the host's memory at most, which counts for the engine",
		Property: systemd.Property{Name: "TemporaryFileSystem",
			Value: []systemd.PathOptions{{Path: stagedTemp, Options: options}}}}}
}

// temporaryBinds show the file system in memory at /tmp and /var/tmp. BindPaths= wins over
// PrivateTmp=, and its source is looked up while PID 1 builds the unit's file system, in the order
// of the paths (seen on 252, 257 and 262): what the unit itself mounts can be named below the
// staging root.
func temporaryBinds(in Input) []Line {
	root := staging(in)
	if root == "" {
		return nil
	}
	lines := make([]Line, 0, 2)
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		source := root + stagedTemp
		lines = append(lines, Line{Section: sectionService, Key: "BindPaths",
			Text: escapeSpecifiers(source) + ":" + dir,
			Why:  "in memory and with a size: PrivateTmp= of this PID 1 is the host's disk, without a bound",
			Property: systemd.Property{Name: "BindPaths",
				Value: []systemd.BindMount{{Source: source, Destination: dir, Flags: mSRec}}}})
	}
	return lines
}
