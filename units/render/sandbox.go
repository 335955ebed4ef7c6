package render

import (
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// Address families of socket(2).
const (
	afInet  = 2
	afInet6 = 10
)

// ePerm is EPERM of errno(3): a refused system call looks forbidden, and does not kill the engine.
const ePerm = 1

// sandboxLines confine the engine, which is untrusted: it parses files and requests from anywhere.
// docs/sandbox.md lists what each line gives. ProtectHostname= is not among them: the system call
// filter refuses the same calls, and the line would add a seccomp program for each architecture
// (docs/adr/0015-seccomp-programs-cost.md).
func sandboxLines(relax []engine.Relaxation, s shown) []Line {
	lines := []Line{
		yes("NoNewPrivileges", "no set-user-id program gives rights back"),
		{Section: sectionService, Key: "CapabilityBoundingSet", Why: "no capability, ever",
			Property: systemd.Property{Name: "CapabilityBoundingSet", Value: uint64(0)}},
		{Section: sectionService, Key: "AmbientCapabilities", Why: "nor one inherited",
			Property: systemd.Property{Name: "AmbientCapabilities", Value: uint64(0)}},
		yes("PrivateUsers", "its user is no user of the host, and root inside is nobody outside"),
		text("ProtectSystem", "strict", "the whole file system is read-only, but for the directories above"),
		protectHome(s),
		yes("PrivateTmp", "no file of another service under /tmp, and none left behind"),
		text("ProtectProc", "invisible", "no process but its own is seen"),
		procSubset(relax),
		yes("ProtectKernelTunables", "no sysctl is written"),
		yes("ProtectKernelModules", "no module is loaded"),
		yes("ProtectKernelLogs", "the kernel's log holds addresses"),
		yes("ProtectControlGroups", "it does not change its own limits"),
		yes("ProtectClock", "nor the clock"),
		restrictNamespaces(),
		yes("RestrictRealtime", "no real-time priority that starves the host"),
		yes("RestrictSUIDSGID", "no set-user-id file is made"),
		yes("LockPersonality", "no other execution domain"),
		writeExecute(relax),
		{Section: sectionService, Key: "SystemCallArchitectures", Text: "native", Why: "no 32-bit calls past the filter",
			Property: systemd.Property{Name: "SystemCallArchitectures", Value: []string{"native"}}},
	}
	lines = append(lines, callFilter(relax)...)
	return append(lines,
		text("KeyringMode", "private", "no key of another service"),
		yes("RemoveIPC", "shared memory goes with the engine"),
	)
}

// cloneNewUTS is CLONE_NEWUTS of clone(2).
const cloneNewUTS = 0x04000000

// restrictNamespaces leaves one kind of namespace, because none at all does not last: PID 1 (seen
// on 252, 257 and 262) writes the empty set of a transient unit as an empty assignment, which lifts
// the restriction at the next daemon-reload.
func restrictNamespaces() Line {
	return Line{Section: sectionService, Key: "RestrictNamespaces", Text: "uts",
		Why: "no namespace of its own, the usual road to kernel bugs. The host name's kind stays: it needs a " +
			"capability that the engine lacks, " +
			"and PID 1 would forget an empty list at the next daemon-reload",
		Property: systemd.Property{Name: "RestrictNamespaces", Value: uint64(cloneNewUTS)}}
}

// relaxed returns why a line is relaxed, "" when it is not.
func relaxed(relax []engine.Relaxation, line engine.SandboxLine) string {
	i := slices.IndexFunc(relax, func(r engine.Relaxation) bool { return r.Line == line })
	if i < 0 {
		return ""
	}
	return "relaxed for this engine: " + relax[i].Why
}

func procSubset(relax []engine.Relaxation) Line {
	if why := relaxed(relax, engine.WholeProc); why != "" {
		return text("ProcSubset", "all", why)
	}
	return text("ProcSubset", "pid", "/proc holds processes and nothing of the machine")
}

func writeExecute(relax []engine.Relaxation) Line {
	if why := relaxed(relax, engine.WriteExecute); why != "" {
		return no("MemoryDenyWriteExecute", why)
	}
	return yes("MemoryDenyWriteExecute", "code that was written at run time does not run")
}

// callFilter allows what services need and takes the privileged calls out again.
func callFilter(relax []engine.Relaxation) []Line {
	deny := []string{"@privileged", "@resources"}
	why := "calls that only an administrator's tool needs"
	if r := relaxed(relax, engine.ResourceCalls); r != "" {
		deny, why = deny[:1], why+"; @resources is "+r
	}
	return []Line{
		filter("SystemCallFilter", true, []string{"@system-service"}, "the calls of an ordinary service"),
		filter("SystemCallFilter", false, deny, why),
		{Section: sectionService, Key: "SystemCallErrorNumber", Text: "EPERM",
			Why:      "a refused call fails and does not kill: engines try calls and go on without",
			Property: systemd.Property{Name: "SystemCallErrorNumber", Value: int32(ePerm)}},
	}
}

func filter(key string, allow bool, members []string, why string) Line {
	t := strings.Join(members, " ")
	if !allow {
		t = "~" + t
	}
	return Line{Section: sectionService, Key: key, Text: t, Why: why,
		Property: systemd.Property{Name: key, Value: systemd.SetFilter{Allow: allow, Members: members}}}
}

// networkLines leave the loopback and nothing else. SocketBindAllow= would hold the engine to its
// port as well, but set over D-Bus it is lost at the next daemon-reload on systemd 249 to 253.
func networkLines() []Line {
	const why = "only the loopback is reached: the engine can send no prompt and no weight anywhere"
	return []Line{
		filter("RestrictAddressFamilies", true, []string{"AF_UNIX", "AF_INET", "AF_INET6"}, "no packet, netlink or exotic socket"),
		{Section: sectionService, Key: "IPAddressDeny", Text: "any", Why: why,
			Property: systemd.Property{Name: "IPAddressDeny", Value: []systemd.AddressPrefix{
				{Family: afInet, Address: make([]byte, 4), Prefix: 0},
				{Family: afInet6, Address: make([]byte, 16), Prefix: 0},
			}}},
		{Section: sectionService, Key: "IPAddressAllow", Text: "localhost", Why: why,
			Property: systemd.Property{Name: "IPAddressAllow", Value: []systemd.AddressPrefix{
				{Family: afInet, Address: []byte{127, 0, 0, 0}, Prefix: 8},
				{Family: afInet6, Address: append(make([]byte, 15), 1), Prefix: 128},
			}}},
	}
}
