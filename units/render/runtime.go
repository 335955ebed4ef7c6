package render

import (
	"cmp"
	"strconv"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// runtimePath is a path of the host's /run that is bound into the unit's empty one, where it
// exists.
type runtimePath struct{ Path, Why string }

// runtimePaths are bound for every engine. The last two are for the commands of the unit that PID 1
// runs as root (the gate and the memory steps): an empty tree and what is bound into it hold for
// them too, and InaccessiblePaths= does not. treeLines and journalTree make both inaccessible to
// the engine, which wins over a bind of the same path (docs/adr/0016-engines-have-an-empty-run.md).
func runtimePaths() []runtimePath {
	const journal = "to log by syslog(3) and to the journal, beside standard output"
	const commands = "for the commands that PID 1 runs as root; it is inaccessible to the engine"
	return []runtimePath{
		{"/run/systemd/journal/dev-log", journal},
		{"/run/systemd/journal/socket", journal},
		{"/run/systemd/journal/stdout", journal},
		{"/run/current-system", "the programs of NixOS"},
		{"/run/pool-managerd", commands},
		{journalTree, commands},
	}
}

// gpuRuntimePaths are those that NVIDIA's container toolkit shows to each container too, and the
// directory of the driver's libraries on NixOS.
func gpuRuntimePaths() []runtimePath {
	const driver = "NVIDIA's libraries ask this daemon of the driver where it runs"
	return []runtimePath{
		{"/run/nvidia-persistenced", driver},
		{"/run/nvidia-fabricmanager", driver},
		{"/run/opengl-driver", "the driver's libraries on NixOS"},
	}
}

// journalTree holds the journal of a host that keeps none on disk.
const journalTree = "/run/log"

// runtimeTree replaces /run.
func runtimeTree() Line {
	return Line{Section: sectionService, Key: "TemporaryFileSystem", Text: confine.Run + ":ro",
		Why: "an empty /run: the host's has the sockets of PID 1, of resolvers, of the message bus and of " +
			"container engines, and the files of all other units",
		Property: systemd.Property{Name: "TemporaryFileSystem",
			Value: []systemd.PathOptions{{Path: confine.Run, Options: "ro"}}}}
}

func runtimeBinds(gpu bool) []Line {
	paths := runtimePaths()
	if gpu {
		paths = append(paths, gpuRuntimePaths()...)
	}
	lines := make([]Line, len(paths))
	for i, p := range paths {
		lines[i] = Line{Section: sectionService, Key: "BindReadOnlyPaths", Text: "-" + p.Path, Why: p.Why,
			Property: systemd.Property{Name: "BindReadOnlyPaths",
				Value: []systemd.BindMount{{Source: p.Path, Destination: p.Path, IgnoreMissing: true, Flags: mSRec}}}}
	}
	return lines
}

// sharedMemoryPath is where POSIX shared memory is.
const sharedMemoryPath = "/dev/shm"

// sharedMemory replaces /dev/shm, which is writable for everyone on the host. Its size is that of
// the engine's memory, since what is in it counts for the engine's cgroup; where that is not
// limited, half of the host's, which is the kernel's own default; where that is unknown, PID 1
// chooses. A change of memory_max applies to it at the next start.
func sharedMemory(in Input) Line {
	options := "mode=1777,nosuid,nodev"
	why := "shared memory of its own, with a size: the host's is one for all, and has no bound for each"
	if r := allowed(in)[relax.ShmExec]; r != "" {
		why += "; noexec is " + r
	} else {
		options += ",noexec"
	}
	// In bytes: systemd 252 loses the whole line with "50%" at the next daemon-reload.
	if size := cmp.Or(in.Pool.Sandbox.ShmBytes, in.Pool.Limits.MemoryMaxBytes, in.Host.MemoryBytes/2); size > 0 {
		options += ",size=" + strconv.FormatUint(size, 10)
	}
	return Line{Section: sectionService, Key: "TemporaryFileSystem",
		Text: escapeSpecifiers(sharedMemoryPath + ":" + options),
		Why:  why,
		Property: systemd.Property{Name: "TemporaryFileSystem",
			Value: []systemd.PathOptions{{Path: sharedMemoryPath, Options: options}}}}
}
