package render

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// socketsTree has the directories of the sockets of all engines.
const socketsTree = "/run/pool-engine"

// Limits of a forwarder. It has six files for each connection (systemd-socket-proxyd splices
// through two pipes).
const (
	forwardConnections = 8192
	forwardFiles       = 65536
)

// Port is the pair of units that hold the TCP port of a replica without a network, and forward its
// connections to the engine's socket. They outlive the engine's runs, so that no other program gets
// the port between two of them.
type Port struct {
	pool.Port
	Socket  Unit // listens, in PID 1
	Service Unit // forwards; PID 1 starts it at the first connection
}

func portOf(in Input) *Port {
	if !withoutNetwork(in) {
		return nil
	}
	p := &Port{Port: pool.Port{Replica: replica(in), Number: in.Port}}
	p.Socket = Unit{Name: p.Port.Socket(), Lines: socketUnitLines(in)}
	p.Service = Unit{Name: p.Port.Service(), Lines: forwarderLines(in, p.Port)}
	return p
}

func socketUnitLines(in Input) []Line {
	address := Loopback + ":" + strconv.Itoa(in.Port)
	lines := []Line{
		inUnit(text("Description", fmt.Sprintf("Port %d of engine %s of pool %s", in.Port, replica(in).Name(),
			in.Pool.ID), "what systemctl status shows")),
		inUnit(text("CollectMode", "inactive-or-failed", "a port that is no longer held leaves nothing behind")),
	}
	lines = append(lines, targetLines(in.Host)...)
	listen := []systemd.PathString{{First: "Stream", Second: address}}
	return append(lines,
		inSocket(Line{Key: "ListenStream", Text: address,
			Why: "PID 1 holds the port also while the engine is down, so that no other program gets the requests of " +
				"its clients",
			Property: systemd.Property{Name: "Listen", Value: listen}}),
		inSocket(yes("NoDelay", "each token of a stream is sent at once")),
		inSocket(text("Slice", pool.Slice, "all of an engine in one slice")),
	)
}

// forwarderLines confine systemd-socket-proxyd, which copies bytes and reads none of them. It is
// the engine's user, since only that may connect to the engine's socket; /run has nothing else,
// since the engine could put a link to another socket there. It has few lines with system call
// filters, of which each costs memory in the kernel (docs/adr/0015-seccomp-programs-cost.md).
func forwarderLines(in Input, p pool.Port) []Line {
	argv := []string{in.Host.Forwarder, "--connections-max=" + strconv.Itoa(forwardConnections), engineSocket(in)}
	lines := []Line{
		inUnit(text("Description", fmt.Sprintf("Forwarder of port %d to engine %s of pool %s", p.Number, p.Replica.Name(),
			in.Pool.ID), "what systemctl status shows")),
		inUnit(text("CollectMode", "inactive-or-failed", "it leaves nothing behind")),
		inUnit(list("PartOf", p.Socket(), "it ends with the port")),
		inUnit(span("StartLimitIntervalSec", "StartLimitIntervalUSec", 0,
			"no limit: PID 1 gives the port up with its service")),
	}
	lines = append(lines, targetLines(in.Host)...)
	return append(lines,
		text("Slice", pool.Slice, "all of an engine in one slice"),
		Line{Section: sectionService, Key: "ExecStart", Text: words(argv),
			Why: "copies connections to the engine's socket", Property: plain("ExecStart", argv)},
		text("Restart", "on-failure", "its connections are lost when it fails; the next ones need not be"),
		span("RestartSec", "RestartUSec", time.Second, "and wait for it in PID 1"),
		number("LimitNOFILE", uint64(forwardFiles), "six files for each connection"),
		yes("DynamicUser", "the engine's user, who alone may connect to its socket"),
		text("User", userName(in), "the same"),
		yes("NoNewPrivileges", "set-user-id programs gain no privileges"),
		Line{Section: sectionService, Key: "CapabilityBoundingSet", Why: "no capabilities",
			Property: systemd.Property{Name: "CapabilityBoundingSet", Value: uint64(0)}},
		yes("PrivateUsers", "root inside is an unprivileged user outside"),
		yes("PrivateNetwork", "PID 1 passes the only socket that it has on the host's network"),
		yes("PrivateDevices", "no device"),
		yes("PrivateTmp", "a private /tmp"),
		text("ProtectSystem", "strict", "it writes to no file"),
		text("ProtectHome", "yes", "and sees no home"),
		text("ProtectProc", "invisible", "only its own processes are visible"),
		text("ProcSubset", "pid", "/proc shows processes only"),
		Line{Section: sectionService, Key: "TemporaryFileSystem", Text: "/run:ro",
			Why: "the engine owns the directory of its socket, and could put a link to any socket there: there is " +
				"no other for this program",
			Property: systemd.Property{Name: "TemporaryFileSystem",
				Value: []systemd.PathOptions{{Path: "/run", Options: "ro"}}}},
		Line{Section: sectionService, Key: "BindReadOnlyPaths", Text: socketsTree,
			Why: "all engines' directories, of which it may enter its own: that one is another at each start of the " +
				"engine",
			Property: systemd.Property{Name: "BindReadOnlyPaths",
				Value: []systemd.BindMount{{Source: socketsTree, Destination: socketsTree, Flags: mSRec}}}},
		filter("RestrictAddressFamilies", true, []string{"AF_UNIX"}, "it opens no socket but unix sockets"),
		yes("MemoryDenyWriteExecute", "no code but its own"),
		Line{Section: sectionService, Key: "SystemCallArchitectures", Text: "native",
			Why:      "no 32-bit calls that bypass the filter",
			Property: systemd.Property{Name: "SystemCallArchitectures", Value: []string{"native"}}},
		filter("SystemCallFilter", true, []string{"@system-service"}, "the calls of an ordinary service"),
		Line{Section: sectionService, Key: "LogRateLimitIntervalSec", Text: "1min",
			Why:      "it logs each connection while the engine is down",
			Property: systemd.Property{Name: "LogRateLimitIntervalUSec", Value: uint64(60e6)}},
		Line{Section: sectionService, Key: "LogRateLimitBurst", Text: "10", Why: "ten lines a minute",
			Property: systemd.Property{Name: "LogRateLimitBurst", Value: uint32(10)}},
	)
}

// inSocket moves a row to the [Socket] section.
func inSocket(line Line) Line { line.Section = sectionSocket; return line }
