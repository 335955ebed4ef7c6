package systemd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Helper is a program that runs for a while in a transient unit of its own, fenced in: it has a
// user of its own, no network, no capability, no device, and nothing to write to but a small file
// system in memory. It reads what others wrote, or runs code from elsewhere.
type Helper struct {
	Description string
	Slice       string   // empty: PID 1's own choice
	Argv        []string // with the program's path
	Groups      []string // beside its own
	Environment []string // KEY=value
	// EnvironmentFiles are paths of more variables, which PID 1 has win over Environment.
	EnvironmentFiles []string
	Memory           uint64 // bytes
	Tasks            uint64
	Home             string // ProtectHome: "yes" or "tmpfs"
	Needs            Needs
}

// Needs are the lines of the sandbox that a program cannot work under. The zero value needs none.
type Needs struct {
	// Proc leaves /proc as it is: ProtectProc, ProtectKernelTunables, ProtectControlGroups and
	// ProcSubset each mount it again.
	Proc bool
	// Sockets lets it make sockets of the Internet's families and of netlink, though there is no
	// network behind them.
	Sockets bool
	// Generated lets it execute memory that it wrote: compilers at run time, libffi's closures.
	Generated bool
	// Search lets it list every directory and see the size of every file of the host, whatever
	// their modes, and also read them: no lesser capability exists for that.
	Search bool
	// Scheduling lets it set its affinity, priority and memory policy (@resources).
	Scheduling bool
}

// Properties are the unit's. Names and values are those of systemd.exec(5) and
// systemd.resource-control(5). How it is started and what becomes of its output is not among them.
func (h Helper) Properties() []Property {
	props := []Property{
		{Name: "Description", Value: h.Description},
		{Name: "ExecStartEx", Value: []ExecCommand{{Path: h.Argv[0], Args: h.Argv, Flags: []string{"no-env-expand"}}}},
		{Name: "IgnoreOnIsolate", Value: true},
		{Name: "DynamicUser", Value: true},
		{Name: "NoNewPrivileges", Value: true},
		{Name: "CapabilityBoundingSet", Value: h.Needs.capabilities()},
		{Name: "AmbientCapabilities", Value: h.Needs.capabilities()},
		{Name: "ProtectSystem", Value: "strict"},
		{Name: "ProtectHome", Value: h.Home},
		// PrivateTmp=yes is the host's disk, and PrivateDevices= leaves the host's shared memory:
		// what it writes goes into a file system of its own, with a size, which counts for
		// MemoryMax.
		{Name: "PrivateTmp", Value: true},
		{Name: "ReadOnlyPaths", Value: []string{"/tmp", "/var/tmp"}},
		{Name: "TemporaryFileSystem", Value: []PathOptions{{Path: HelperScratch, Options: h.scratchOptions()}}},
		{Name: "PrivateDevices", Value: true},
		{Name: "PrivateNetwork", Value: true},
		{Name: "IPAddressDeny", Value: []AddressPrefix{
			{Family: unix.AF_INET, Address: make([]byte, 4)}, {Family: unix.AF_INET6, Address: make([]byte, 16)},
		}},
		{Name: "ProtectKernelModules", Value: true},
		{Name: "ProtectKernelLogs", Value: true},
		{Name: "ProtectClock", Value: true},
		{Name: "ProtectHostname", Value: true},
		{Name: "RestrictNamespaces", Value: uint64(0)},
		{Name: "RestrictRealtime", Value: true},
		{Name: "RestrictSUIDSGID", Value: true},
		{Name: "LockPersonality", Value: true},
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		{Name: "SystemCallErrorNumber", Value: int32(unix.EPERM)},
		{Name: "KeyringMode", Value: "private"},
		{Name: "UMask", Value: uint32(0o077)},
		{Name: "LimitCORE", Value: uint64(0)},
		{Name: "MemoryMax", Value: h.Memory},
		{Name: "TasksMax", Value: h.Tasks},
		// It may fail as often as the caller likes, whose own backoff decides.
		{Name: "StartLimitIntervalUSec", Value: uint64(0)},
	}
	if h.Slice != "" {
		props = append(props, Property{Name: "Slice", Value: h.Slice})
	}
	if len(h.Groups) > 0 {
		props = append(props, Property{Name: "SupplementaryGroups", Value: h.Groups})
	}
	if len(h.EnvironmentFiles) > 0 {
		files := make([]EnvironmentFile, len(h.EnvironmentFiles))
		for i, path := range h.EnvironmentFiles {
			files[i].Path = path
		}
		props = append(props, Property{Name: "EnvironmentFiles", Value: files})
	}
	// The caller's variables come later, and win.
	environment := append([]string{"TMPDIR=" + HelperScratch}, h.Environment...)
	props = append(props, Property{Name: "Environment", Value: environment})
	return append(props, h.Needs.properties()...)
}

// HelperScratch is the only directory that a helper can write to.
const HelperScratch = "/dev/shm"

// scratchOptions are the mount options of HelperScratch: a quarter of its memory. The size is in
// bytes, since systemd 252 loses a percentage at a daemon-reload.
func (h Helper) scratchOptions() string {
	options := fmt.Sprintf("mode=1777,nosuid,nodev,size=%d,nr_inodes=10k", h.Memory/4)
	if !h.Needs.Generated {
		options += ",noexec"
	}
	return options
}

// capabilities are the bits that it has, and no others.
func (n Needs) capabilities() uint64 {
	if n.Search {
		return 1 << unix.CAP_DAC_READ_SEARCH
	}
	return 0
}

// properties are the lines of the sandbox that depend on what the program needs.
func (n Needs) properties() []Property {
	families, refused := []string{"AF_UNIX"}, []string{"@privileged", "@resources"}
	if n.Sockets {
		families = append(families, "AF_INET", "AF_INET6", "AF_NETLINK")
	}
	if n.Scheduling {
		refused = refused[:1]
	}
	props := []Property{
		{Name: "RestrictAddressFamilies", Value: SetFilter{Allow: true, Members: families}},
		{Name: "SystemCallFilter", Value: SetFilter{Allow: true, Members: []string{"@system-service"}}},
		{Name: "SystemCallFilter", Value: SetFilter{Members: refused}},
		{Name: "SystemCallFilter", Value: SetFilter{Members: IOUring()}},
	}
	if !n.Search { // a capability counts in the host's user namespace alone
		props = append(props, Property{Name: "PrivateUsers", Value: true})
	}
	if !n.Generated {
		props = append(props, Property{Name: "MemoryDenyWriteExecute", Value: true})
	}
	if !n.Proc {
		props = append(props,
			Property{Name: "ProtectProc", Value: "invisible"},
			Property{Name: "ProtectKernelTunables", Value: true},
			Property{Name: "ProtectControlGroups", Value: true})
	}
	return props
}

// IOUring are calls of @system-service by which a process has the kernel act for it, where no
// filter of system calls sees what: sockets that RestrictAddressFamilies= refuses, those of
// vsock beside PrivateNetwork= too. A library that prefers them does without, as in containers.
func IOUring() []string { return []string{"io_uring_setup", "io_uring_enter", "io_uring_register"} }
