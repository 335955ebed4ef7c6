package render

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func unitLines(in Input) []Line {
	return []Line{
		inUnit(text("Description", fmt.Sprintf("Engine %s of pool %s (%s)", replica(in).Name(), in.Pool.ID, in.Pool.Engine),
			"what systemctl status shows")),
		inUnit(text("CollectMode", "inactive", "a failed unit stays in memory with its result and its start counter")),
		{Section: sectionUnit, Why: "PID 1 keeps the unit, and its start counter, for as long as the manager is connected",
			Property: systemd.Property{Name: "AddRef", Value: true}},
	}
}

// execLines are the process and its gate.
func execLines(in Input, command engine.Command) []Line {
	argv := append([]string{in.Prepared.Binary}, command.Args...)
	lines := []Line{
		text("Slice", pool.Slice, "all engines in one slice, for systemd-cgtop and limits on the whole"),
		text("Type", "exec", "started means executed: a missing or broken binary fails the start and names itself"),
	}
	lines = append(lines, commandLines(in.Host,
		commands{engine: argv, gate: gateArgv(in), memory: memoryArgv(in), release: releaseArgv(in)})...)
	return append(lines,
		text("KillMode", "mixed", "SIGTERM to the engine alone, which tells its own workers, then SIGKILL to all "+
			"that is left"),
		yes("SendSIGKILL", "an engine that hangs in a driver call must not keep the unit alive"),
		text("OOMPolicy", "kill", "when the kernel kills one process of the engine, all go at once: \"continue\" "+
			"would leave a server without its workers, \"stop\" would wait for their clean-up"),
		number("LimitNOFILE", uint64(65536), "one descriptor a connection and one a model shard, above the usual 1024"),
		number("LimitCORE", uint64(0), "a core dump of a loaded model takes minutes before the restart, and holds "+
			"prompts"),
		mode("UMask", 0o077, "what the engine writes is its own"),
	)
}

func gatePath(in Input) string {
	if in.Host.GatePath == "" {
		return GatePath
	}
	return in.Host.GatePath
}

// memoryArgv is the step before the engine that asks for its memory; nil where no need is known.
// The limit of the unit's own memory is not in it: that can be changed while the unit runs.
func memoryArgv(in Input) []string {
	if len(in.Need.Devices) == 0 && in.Need.Host == 0 {
		return nil
	}
	argv := []string{gatePath(in), "memory"}
	if len(in.Need.Devices) > 0 {
		var needs []string
		for _, uuid := range slices.Sorted(maps.Keys(in.Need.Devices)) {
			needs = append(needs, uuid+"="+strconv.FormatUint(in.Need.Devices[uuid], 10))
		}
		argv = append(argv, "--need", strings.Join(needs, ","))
	}
	if in.Need.Host > 0 {
		argv = append(argv, "--host", strconv.FormatUint(in.Need.Host, 10))
	}
	return argv
}

// gateArgv is the readiness gate's command line.
func gateArgv(in Input) []string {
	argv := []string{gatePath(in), "--url", gateURL(in)}
	if in.Pool.Health.Body != "" && !otherProbe(in.Pool) {
		// In base64: below some version PID 1 loses a $ of it.
		argv = append(argv, "--body", base64.RawURLEncoding.EncodeToString([]byte(in.Pool.Health.Body)))
	}
	argv = append(argv,
		"--expect", strconv.Itoa(in.Adapter.HealthStatus()),
		"--stall", in.Pool.Health.StartTimeout.String(),
	)
	if len(in.Mask) > 0 {
		argv = append(argv, "--engine", in.Pool.Engine, "--gpu")
	}
	return argv
}

// releaseArgv is the step behind the gate that gives back what is left of the promise; nil where
// none was asked for.
func releaseArgv(in Input) []string {
	if len(in.Need.Devices) == 0 {
		return nil
	}
	return []string{gatePath(in), "release"}
}

// gateURL says where and how the gate asks, as the manager's probe will.
func gateURL(in Input) string {
	address := Loopback + ":" + strconv.Itoa(in.Port)
	switch in.Pool.Health.Probe {
	case pool.ProbeGRPC:
		return "grpc://" + address + "/" + in.Pool.Health.GRPCService
	case pool.ProbeTCP:
		return "tcp://" + address
	}
	return Endpoint(in.Port) + healthPath(in)
}

// otherProbe reports whether the pool is asked in another way than by HTTP.
func otherProbe(p pool.Pool) bool { return p.Health.Probe != "" && p.Health.Probe != pool.ProbeHTTP }

// healthPath is the pool's own, or the engine's.
func healthPath(in Input) string {
	if in.Pool.Health.Path != "" {
		return in.Pool.Health.Path
	}
	return in.Adapter.HealthPath()
}

// Directories of an engine, as StateDirectory= and CacheDirectory= make them.
func directoryName(in Input) string  { return "pool-engine/" + replica(in).FileStem() }
func stateDirectory(in Input) string { return "/var/lib/" + directoryName(in) }
func cacheDirectory(in Input) string { return "/var/cache/" + directoryName(in) }

func directoryLines(in Input) []Line {
	return []Line{
		yes("DynamicUser", "a user of its own, which exists only while the engine runs"),
		list("StateDirectory", directoryName(in), "the only places that the engine may write to, apart from a private /tmp"),
		mode("StateDirectoryMode", 0o700, "another engine's user does not look in"),
		list("CacheDirectory", directoryName(in), "compiled kernels survive a restart"),
		mode("CacheDirectoryMode", 0o700, "another engine's user does not look in"),
		text("WorkingDirectory", stateDirectory(in), "what an engine writes to the current directory lands in its state directory"),
	}
}

// list is a row of a property that is a list of strings, with one element.
func list(key, value, why string) Line {
	return Line{Section: sectionService, Key: key, Text: escapeSpecifiers(value), Why: why,
		Property: systemd.Property{Name: key, Value: []string{value}}}
}

// environmentLines are ours, then the engine's, then the operator's: the later wins.
func environmentLines(in Input, command engine.Command, devices []Device) []Line {
	lines := []Line{
		variable(confine.EnvHome, stateDirectory(in), "libraries that write to a home directory find one"),
		variable(confine.EnvCache, cacheDirectory(in), "caches go where they survive a restart"),
		variable(confine.EnvDeviceOrder, "PCI_BUS_ID", "device numbers mean what nvidia-smi prints, not the fastest first"),
		visibleLine(devices),
	}
	for _, key := range slices.Sorted(maps.Keys(command.Env)) {
		if _, own := in.Pool.Env[key]; !own {
			lines = append(lines, variable(key, command.Env[key], "the engine's adapter needs it"))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(in.Pool.Env)) {
		lines = append(lines, variable(key, in.Pool.Env[key], "env of the pool file"))
	}
	return lines
}

func visibleLine(devices []Device) Line {
	if len(devices) == 0 {
		return variable(confine.EnvVisible, "", "empty, not absent: it hides every GPU, and absent would show them all")
	}
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.Visible
	}
	return variable(confine.EnvVisible, strings.Join(names, ","),
		"the replica's device mask, in the order in which it was written")
}

func variable(key, value, why string) Line {
	line := list("Environment", key+"="+value, why)
	line.Text = word(key + "=" + value)
	return line
}

// Fields that every line in the journal carries, and by which the manager knows a running unit
// again.
const (
	FieldPool     = "POOL_ID"
	FieldReplica  = "REPLICA_ID"
	FieldEngine   = "ENGINE"
	FieldVersion  = "ENGINE_VERSION"
	FieldModel    = "MODEL_ID"
	FieldEndpoint = "ENDPOINT"
	FieldSpecHash = "SPEC_HASH"
)

func logLines(in Input, hash string) []Line {
	const why = "journalctl " + FieldPool + "=… finds the pool's lines, and the manager its units after a restart"
	fields := [][2]string{
		{FieldPool, in.Pool.ID},
		{FieldReplica, replica(in).Name()},
		{FieldEngine, in.Pool.Engine},
		{FieldVersion, oneWord(in.Prepared.Version)},
		{FieldModel, string(in.Pool.Model)},
		{FieldEndpoint, Endpoint(in.Port)},
		{FieldSpecHash, hash},
	}
	lines := []Line{text("SyslogIdentifier", replica(in).FileStem(), "the name before each line in the journal")}
	for _, f := range fields {
		if f[0] == FieldVersion && f[1] == "" {
			continue // the engine does not print its version
		}
		assignment := f[0] + "=" + f[1]
		lines = append(lines, Line{Section: sectionService, Key: "LogExtraFields", Text: word(assignment), Why: why,
			Property: systemd.Property{Name: "LogExtraFields", Value: [][]byte{[]byte(assignment)}}})
	}
	return lines
}

// oneWord takes out what PID 1 would lose from a log field at the next daemon-reload: it cuts the
// field at a space (seen on 252, 257 and 262).
func oneWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`"'\\`, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
}
