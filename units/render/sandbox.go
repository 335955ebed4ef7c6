package render

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// ePerm is EPERM of errno(3): a blocked system call fails with it and does not kill the engine.
const ePerm = 1

// sandboxLines confine the engine, which is untrusted: it parses files and requests from anywhere.
// docs/sandbox.md explains each line. ProtectHostname= is not among them: the system call filter
// blocks the same calls, and the line would add a seccomp program for each architecture
// (docs/adr/0015-seccomp-programs-cost.md).
func sandboxLines(in Input, why allowance, s shown) []Line {
	lines := []Line{
		yes("NoNewPrivileges", "set-user-id programs gain no privileges"),
		{Section: sectionService, Key: "CapabilityBoundingSet", Why: "no capabilities",
			Property: systemd.Property{Name: "CapabilityBoundingSet", Value: uint64(0)}},
		{Section: sectionService, Key: "AmbientCapabilities", Why: "and none inherited",
			Property: systemd.Property{Name: "AmbientCapabilities", Value: uint64(0)}},
		yes("PrivateUsers", "a separate user namespace: root inside is an unprivileged user outside"),
		text("ProtectSystem", "strict", "the whole file system is read-only, except for the directories above"),
		protectHome(in, s),
		temporary(in.Host),
		text("ProtectProc", "invisible", "only its own processes are visible"),
		procSubset(why),
		yes("ProtectKernelTunables", "no sysctl is written"),
		yes("ProtectKernelModules", "no module is loaded"),
		yes("ProtectKernelLogs", "the kernel's log holds addresses"),
		yes("ProtectControlGroups", "it cannot change its own limits"),
		yes("ProtectClock", "it cannot change the clock"),
		restrictNamespaces(),
		yes("PrivateIPC", "System V memory and message queues of its own: the host's have one bound for all programs"),
		yes("RestrictRealtime", "no real-time priority that starves the host"),
		yes("RestrictSUIDSGID", "it cannot create set-user-id files"),
		yes("LockPersonality", "no other execution domain"),
		writeExecute(why),
		{Section: sectionService, Key: "SystemCallArchitectures", Text: "native", Why: "no 32-bit calls that bypass the filter",
			Property: systemd.Property{Name: "SystemCallArchitectures", Value: []string{"native"}}},
	}
	lines = append(lines, callFilter(why)...)
	return append(lines,
		text("KeyringMode", "private", "no keys of other services"),
		yes("RemoveIPC", "shared memory is removed with the engine"),
	)
}

// cloneNewUTS is CLONE_NEWUTS of clone(2).
const cloneNewUTS = 0x04000000

// restrictNamespaces allows one kind of namespace, because an empty set does not survive: PID 1
// (seen on 252, 257 and 262) writes the empty set of a transient unit as an empty assignment, which
// lifts the restriction at the next daemon-reload.
func restrictNamespaces() Line {
	return Line{Section: sectionService, Key: "RestrictNamespaces", Text: "uts",
		Why: "no new namespaces, a common way to exploit kernel bugs. UTS stays allowed: it needs a capability " +
			"that the engine lacks, and PID 1 would lose an empty list at the next daemon-reload",
		Property: systemd.Property{Name: "RestrictNamespaces", Value: uint64(cloneNewUTS)}}
}

// allowance is why each relaxed part of the sandbox is relaxed, by its name in relax.Table.
type allowance map[string]string

// allowed is what the engine needs, and what the pool file allows beyond it.
func allowed(in Input) allowance {
	why := allowance{}
	for _, name := range in.Pool.Sandbox.Allow {
		r, _ := relax.Find(name)
		why[name] = fmt.Sprintf("relaxed by [sandbox] allow = [%q] of the pool file: %s", name, r.Why)
	}
	for _, r := range in.Adapter.Relax(instance(in)) {
		why[r.Name] = "relaxed for this engine: " + r.Why
	}
	return why
}

func procSubset(why allowance) Line {
	if why := why[relax.Proc]; why != "" {
		return text("ProcSubset", "all", why)
	}
	return text("ProcSubset", "pid", "/proc shows processes only")
}

func writeExecute(why allowance) Line {
	if why := why[relax.JIT]; why != "" {
		return no("MemoryDenyWriteExecute", why)
	}
	return yes("MemoryDenyWriteExecute", "code generated at run time cannot be executed")
}

// callFilter allows what services need, except the privileged calls and those of @resources that
// are not relaxed. PID 1 applies the rows in order.
func callFilter(why allowance) []Line {
	lines := []Line{
		filter("SystemCallFilter", true, []string{"@system-service"}, "the calls of an ordinary service"),
		filter("SystemCallFilter", false, []string{"@privileged", "@resources"},
			"calls that only administrative tools need"),
		filter("SystemCallFilter", false, systemd.IOUring(), "the kernel does by them what the filter of a call refuses: "+
			"they make sockets of every family"),
	}
	for _, r := range relax.Table() {
		if why := why[r.Name]; why != "" && len(r.Calls) > 0 {
			lines = append(lines, filter("SystemCallFilter", true, r.Calls, why))
		}
	}
	return append(lines, Line{Section: sectionService, Key: "SystemCallErrorNumber", Text: "EPERM",
		Why:      "a blocked call fails and does not kill the engine, which can do without it",
		Property: systemd.Property{Name: "SystemCallErrorNumber", Value: int32(ePerm)}})
}

func filter(key string, allow bool, members []string, why string) Line {
	t := strings.Join(members, " ")
	if !allow {
		t = "~" + t
	}
	return Line{Section: sectionService, Key: key, Text: t, Why: why,
		Property: systemd.Property{Name: key, Value: systemd.SetFilter{Allow: allow, Members: members}}}
}
