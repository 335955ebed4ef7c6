package render

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// rootLines give a container its image as its root directory. The commands of root stay in the
// host's, where the gate, the journal and the sockets of the manager and of the GPU helper are.
func rootLines(in Input) []Line {
	if in.Prepared.Image == nil {
		return nil
	}
	return []Line{
		text("RootDirectory", in.Prepared.Image.Root, "the image: of the host's files, the engine sees what is bound below"),
		yes("RootDirectoryStartOnly", "the engine alone: the gate and the memory steps are programs of the host"),
		yes("MountAPIVFS", "/proc, /sys and /dev, which the image does not have"),
	}
}

// gateBind shows the gate in an image where it executes the engine.
func gateBind(in Input, command engine.Command) []Line {
	gate := gatePath(in)
	if in.Prepared.Image == nil || engineArgv(in, command)[0] != gate {
		return nil
	}
	return []Line{{Section: sectionService, Key: "BindReadOnlyPaths", Text: escapeSpecifiers(gate),
		Why: "sets the engine's variables, and executes it",
		Property: systemd.Property{Name: "BindReadOnlyPaths",
			Value: []systemd.BindMount{{Source: gate, Destination: gate, Flags: mSRec}}}}}
}

// driverOf are the files of the GPU driver that an engine in an image needs.
func driverOf(in Input) []pool.Mount {
	if in.Prepared.Image == nil || len(in.Mask) == 0 {
		return nil
	}
	return in.Prepared.Image.Driver
}

// driverBinds show the files of the GPU driver in an image, where its programs look for them.
func driverBinds(in Input) []Line {
	var lines []Line
	for _, m := range driverOf(in) {
		lines = append(lines, Line{Section: sectionService, Key: "BindReadOnlyPaths",
			Text: escapeSpecifiers(m.Host) + ":" + escapeSpecifiers(m.Inside),
			Why:  "the driver's, as /etc/cdi or /var/run/cdi has it",
			Property: systemd.Property{Name: "BindReadOnlyPaths",
				Value: []systemd.BindMount{{Source: m.Host, Destination: m.Inside, Flags: mSRec}}}})
	}
	return lines
}

// holdsProgram reports whether a tree of the image has something in it that the engine needs.
func holdsProgram(in Input, tree string) bool {
	return slices.ContainsFunc(append([]string{in.Prepared.Binary}, in.Prepared.Programs...), func(p string) bool {
		return confine.Within(p, []string{tree}) != ""
	})
}
