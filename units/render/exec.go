package render

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/disk"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func unitLines(in Input) []Line {
	return []Line{
		inUnit(text("Description", fmt.Sprintf("Engine %s of pool %s (%s)", replica(in).Name(), in.Pool.ID, in.Pool.Engine),
			"what systemctl status shows")),
		inUnit(text("CollectMode", "inactive", "a failed unit stays loaded, with its result and its restart counter")),
		{Section: sectionUnit, Why: "PID 1 keeps the unit and its restart counter while the manager is connected",
			Property: systemd.Property{Name: "AddRef", Value: true}},
	}
}

// execLines describe the process and its gate.
func execLines(in Input, command engine.Command) []Line {
	argv := engineArgv(in, command)
	lines := []Line{
		text("Slice", pool.Slice, "all engines in one slice, for systemd-cgtop and common limits"),
		text("Type", "exec", "started means executed: a missing or broken binary fails the start"),
	}
	lines = append(lines, commandLines(in.Host,
		commands{engine: argv, gate: gateArgv(in), memory: memoryArgv(in), gpu: gpuArgv(in)})...)
	lines = append(lines,
		text("KillMode", "mixed", "SIGTERM to the main process, which stops its workers, then SIGKILL to "+
			"all that remain"),
		yes("SendSIGKILL", "an engine that hangs in a driver call must not keep the unit running"),
		text("OOMPolicy", "kill", "when the kernel kills one process of the engine, kill all at once: \"continue\" "+
			"would leave a server without its workers, \"stop\" would wait for their clean-up"),
	)
	lines = append(lines, processLines(in)...)
	return append(lines,
		number("LimitCORE", uint64(0), "a core dump of a loaded model delays the restart by minutes and "+
			"contains prompts"),
		mode("UMask", 0o077, "files of the engine are private"),
	)
}

func gatePath(in Input) string {
	if in.Host.GatePath == "" {
		return GatePath
	}
	return in.Host.GatePath
}

// memoryArgv is the command that reserves the engine's memory before the start; nil if the need is
// unknown. It leaves out the unit's memory limit, which can change while the unit runs.
func memoryArgv(in Input) []string {
	host, mapped := in.Need.Host, in.Need.Mapped
	if in.Need.Lacked > host {
		host, mapped = in.Need.Lacked, 0
	}
	if in.Pool.MemoryCheck == pool.MemoryOff {
		host = 0
	}
	nodes := neededNodes(in.Mask)
	if len(in.Need.Devices) == 0 && host == 0 && len(nodes) == 0 {
		return nil
	}
	argv := []string{gatePath(in), "memory"}
	if len(nodes) > 0 {
		argv = append(argv, "--nodes", strings.Join(nodes, ","))
	}
	if len(in.Need.Devices) > 0 {
		var needs []string
		for _, uuid := range slices.Sorted(maps.Keys(in.Need.Devices)) {
			needs = append(needs, uuid+"="+strconv.FormatUint(in.Need.Devices[uuid], 10))
		}
		argv = append(argv, "--need", strings.Join(needs, ","))
	}
	if host > 0 {
		argv = append(argv, "--host", strconv.FormatUint(host, 10))
		switch {
		case in.Pool.MemoryCheck == pool.MemoryWarn:
			argv = append(argv, "--warn")
		case in.Pool.MemoryCheck == "" && mapped > 0:
			argv = append(argv, "--mapped", strconv.FormatUint(mapped, 10))
		}
	}
	return argv
}

// gateArgv is the command line of the readiness gate.
func gateArgv(in Input) []string {
	argv := []string{gatePath(in), "--url", gateURL(in)}
	if in.Prepared.ByPodman() {
		argv = append(argv, "--monitor")
	}
	if socket := engineSocket(in); socket != "" {
		argv = append(argv, "--unix", socket)
	}
	if in.Pool.APIKeyFile != "" {
		argv = append(argv, "--key")
	}
	if in.Pool.Health.Body != "" && !otherProbe(in.Pool) {
		// In base64: older versions of PID 1 lose a $.
		argv = append(argv, "--body", base64.RawURLEncoding.EncodeToString([]byte(in.Pool.Health.Body)))
	}
	argv = append(argv,
		"--expect", strconv.Itoa(in.Adapter.HealthStatus()),
		"--stall", in.Pool.Health.StartTimeout.String(),
	)
	if in.Pool.Health.StartDeadline > 0 {
		argv = append(argv, "--deadline", in.Pool.Health.StartDeadline.String())
	}
	return argv
}

// gpuArgv is the command after the gate that proves that the engine uses its GPUs, and releases the
// rest of the reservation; nil without GPUs.
func gpuArgv(in Input) []string {
	if len(in.Mask) == 0 {
		return nil
	}
	names := make([]string, len(in.Mask))
	for i, d := range in.Mask {
		names[i] = d.Visible
	}
	argv := []string{gatePath(in), "gpu", "--devices", strings.Join(names, ","), "--engine", in.Pool.Engine}
	if proof := in.Pool.GPUProof; proof != "" && proof != pool.ProofAll {
		argv = append(argv, "--proof", proof)
	}
	asked := engine.AskedLayers(in.Pool)
	if asked.Model < engine.AllLayers {
		argv = append(argv, "--layers", strconv.Itoa(asked.Model))
	}
	if asked.Draft < engine.AllLayers {
		argv = append(argv, "--draft-layers", strconv.Itoa(asked.Draft))
	}
	if in.Host.VRAMOnly {
		argv = append(argv, "--whole")
	}
	return argv
}

// gateURL returns the URL of the gate's requests, the same as the manager's probe uses.
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

// otherProbe reports whether the pool is probed by another protocol than HTTP.
func otherProbe(p pool.Pool) bool { return p.Health.Probe != "" && p.Health.Probe != pool.ProbeHTTP }

// healthPath returns the pool's health path, or the engine's default.
func healthPath(in Input) string {
	if in.Pool.Health.Path != "" {
		return in.Pool.Health.Path
	}
	return engine.Served(in.Adapter, in.Pool).HealthPath()
}

// Directories of an engine, as StateDirectory= and CacheDirectory= make them.
func directoryName(in Input) string    { return "pool-engine/" + replica(in).FileStem() }
func runtimeDirectory(in Input) string { return "/run/" + directoryName(in) }
func stateDirectory(in Input) string   { return "/var/lib/" + directoryName(in) }
func cacheDirectory(in Input) string   { return "/var/cache/" + directoryName(in) }

func directoryLines(in Input) []Line {
	lines := []Line{
		yes("DynamicUser", "a dedicated user, which exists only while the engine runs"),
		text("User", userName(in), "a user for each replica: without a name PID 1 takes the part of the unit's name before the @, "+
			"and all engines are one user, who may kill each of them"),
		list("StateDirectory", directoryName(in), "the only directories that the engine may write to, besides a private /tmp"),
		mode("StateDirectoryMode", 0o700, "not readable by other engines"),
		list("CacheDirectory", directoryName(in), "caches, such as compiled kernels, survive a restart"),
		mode("CacheDirectoryMode", 0o700, "not readable by other engines"),
		workingDirectory(in),
	}
	return slices.Concat(lines, quotaLines(in), socketDirectoryLines(in))
}

// workingDirectory is where the engine begins. Of a unit with a root directory PID 1 makes the
// state directory's name there alone: the commands of root, in the host's, do not have it.
func workingDirectory(in Input) Line {
	const why = "files in the current directory go to the state directory"
	if in.Prepared.Image != nil {
		return text("WorkingDirectory", "-"+stateDirectory(in), why+`; "-" for the commands of root, which do not have it`)
	}
	return text("WorkingDirectory", stateDirectory(in), why)
}

// quotaLines bound each of the two directories, where the pool sets state_max and the host's file
// system has project quotas. Elsewhere PID 1 starts the unit without them (seen on 262), and the
// manager counts. They are not in every unit: with them PID 1 does not show the properties of a
// unit whose directories were deleted (262).
func quotaLines(in Input) []Line {
	bound := disk.Bound(in.Pool.StateMaxBytes, in.Host.StateBytes)
	if !in.Host.DirectoryQuota || bound == disk.Off || in.Pool.StateMaxBytes == 0 {
		return nil
	}
	quota := func(key string) Line {
		return Line{Section: sectionService, Key: key, Text: strconv.FormatUint(bound, 10),
			Why: "[limits] state_max: it cannot fill the disk, where the file system has project quotas",
			Property: systemd.Property{Name: key,
				Value: systemd.DirectoryQuota{Bytes: bound, Scale: systemd.NoScale, Enforce: "yes"}}}
	}
	return []Line{quota("StateDirectoryQuota"), quota("CacheDirectoryQuota")}
}

// userName returns the name of the replica's dynamic user: at most 31 characters of those that PID
// 1 accepts (systemd.exec(5), useradd(8)), and another for each replica and side.
func userName(in Input) string {
	const mostOfID = 16
	stem := replica(in).FileStem()
	sum := sha256.Sum256([]byte(stem))
	readable := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, in.Pool.ID[:min(len(in.Pool.ID), mostOfID)])
	return "pe-" + readable + "-" + hex.EncodeToString(sum[:4])
}

// list returns a row of a property that is a list of strings, with one element.
func list(key, value, why string) Line {
	return Line{Section: sectionService, Key: key, Text: escapeSpecifiers(value), Why: why,
		Property: systemd.Property{Name: key, Value: []string{value}}}
}

// Fields of every journal line, by which the manager recognises a running unit.
const (
	FieldPool     = "POOL_ID"
	FieldReplica  = "REPLICA_ID"
	FieldEngine   = "ENGINE"
	FieldVersion  = "ENGINE_VERSION"
	FieldModel    = "MODEL_ID"
	FieldEndpoint = "ENDPOINT"
	FieldSpecHash = "SPEC_HASH"
	FieldSocket   = "ENGINE_SOCKET" // of an engine without a network
)

// logBurst is how many lines of an engine journald takes in 30 seconds, and up to six times as many
// where its disk has much space (journald.conf(5)).
const logBurst = 100_000

func logLines(in Input, hash string) []Line {
	const why = "the pool's lines can be found by " + FieldPool + " (with _SYSTEMD_UNIT: poolctl logs); " +
		"the manager recognises its units by them after a restart"
	fields := [][2]string{
		{FieldPool, in.Pool.ID},
		{FieldReplica, replica(in).Name()},
		{FieldEngine, in.Pool.Engine},
		{FieldVersion, oneWord(publishedVersion(in.Prepared))},
		{FieldModel, string(in.Pool.Model)},
		{FieldEndpoint, Endpoint(in.Port)},
		{FieldSpecHash, hash},
		{FieldSocket, engineSocket(in)},
	}
	lines := []Line{
		text("SyslogIdentifier", replica(in).FileStem(), "the identifier of each line in the journal"),
		{Section: sectionService, Key: "LogRateLimitIntervalSec", Text: "30s",
			Why:      "an engine that ends after many lines logs why in the last one, which must not be suppressed",
			Property: systemd.Property{Name: "LogRateLimitIntervalUSec", Value: uint64(30e6)}},
		number("LogRateLimitBurst", uint32(logBurst), "ten times journald's own limit, and still a limit: the journal "+
			"is shared"),
	}
	for _, f := range fields {
		if (f[0] == FieldVersion || f[0] == FieldSocket) && f[1] == "" {
			continue // the engine does not print its version, or has no such socket
		}
		assignment := f[0] + "=" + f[1]
		lines = append(lines, Line{Section: sectionService, Key: "LogExtraFields", Text: word(assignment), Why: why,
			Property: systemd.Property{Name: "LogExtraFields", Value: [][]byte{[]byte(assignment)}}})
	}
	return lines
}

// publishedVersion is the engine's version, and the image that it comes from.
func publishedVersion(p pool.Prepared) string {
	if p.Image == nil {
		return p.Version
	}
	return strings.TrimSpace(p.Version + " (" + image.Short(p.Image.Digest) + ")")
}

// oneWord replaces what PID 1 would lose from a log field at the next daemon-reload: it truncates
// the field at a space (seen on 252, 257 and 262).
func oneWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`"'\\`, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
}
