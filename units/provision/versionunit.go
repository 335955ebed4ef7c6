package provision

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Address families of socket(2), as IPAddressDeny takes them.
const (
	afInet  = 2
	afInet6 = 10
)

// ePerm is EPERM of errno(3): a refused system call looks forbidden, and does not kill.
const ePerm = 1

// versionProperties fence the question like an engine, and tighter: no network, no device, no state, little memory. Names and
// values are those of systemd.exec(5) and systemd.resource-control(5). The unit's time is bounded by RunCapture.
func versionProperties(args, readOnly []string) []systemd.Property {
	props := []systemd.Property{
		{Name: "Description", Value: "version of " + args[0]},
		{Name: "Slice", Value: pool.Slice},
		{Name: "ExecStartEx", Value: []systemd.ExecCommand{{Path: args[0], Args: args, Flags: []string{"no-env-expand"}}}},
		{Name: "DynamicUser", Value: true},
		{Name: "NoNewPrivileges", Value: true},
		{Name: "CapabilityBoundingSet", Value: uint64(0)},
		{Name: "AmbientCapabilities", Value: uint64(0)},
		{Name: "ProtectSystem", Value: "strict"},
		{Name: "ProtectHome", Value: "tmpfs"},
		{Name: "PrivateTmp", Value: true},
		{Name: "PrivateDevices", Value: true},
		{Name: "PrivateNetwork", Value: true},
		{Name: "IPAddressDeny", Value: []systemd.AddressPrefix{
			{Family: afInet, Address: make([]byte, 4)}, {Family: afInet6, Address: make([]byte, 16)},
		}},
		{Name: "RestrictAddressFamilies", Value: systemd.SetFilter{Allow: true, Members: []string{"AF_UNIX", "AF_INET", "AF_INET6"}}},
		{Name: "PrivateUsers", Value: true},
		{Name: "ProtectProc", Value: "invisible"},
		{Name: "ProtectKernelTunables", Value: true},
		{Name: "ProtectKernelModules", Value: true},
		{Name: "ProtectKernelLogs", Value: true},
		{Name: "ProtectControlGroups", Value: true},
		{Name: "ProtectClock", Value: true},
		{Name: "ProtectHostname", Value: true},
		{Name: "RestrictNamespaces", Value: uint64(0)},
		{Name: "RestrictRealtime", Value: true},
		{Name: "RestrictSUIDSGID", Value: true},
		{Name: "LockPersonality", Value: true},
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		{Name: "SystemCallFilter", Value: systemd.SetFilter{Allow: true, Members: []string{"@system-service"}}},
		{Name: "SystemCallErrorNumber", Value: int32(ePerm)},
		{Name: "LimitCORE", Value: uint64(0)},
		{Name: "MemoryMax", Value: uint64(4 << 30)}, // a Python engine imports its whole framework to say its version
		{Name: "TasksMax", Value: uint64(512)},
		{Name: "Environment", Value: []string{"HOME=/tmp", "XDG_CACHE_HOME=/tmp", "CUDA_VISIBLE_DEVICES="}},
	}
	return append(props, treeProperties(readOnly)...)
}

// emptied are the hidden trees that other properties replace: ProtectHome and PrivateTmp. /root is not among them, since
// ProtectHome=tmpfs makes it with a mode that a dynamic user cannot pass.
var emptied = []string{"/home", "/run/user", "/tmp", "/var/tmp"}

// treeProperties hide what an engine may not see either, and show the engine itself where it lives in such a tree.
func treeProperties(readOnly []string) []systemd.Property {
	var shut []string
	var props []systemd.Property
	for _, tree := range confine.HiddenTrees() {
		holds := slices.ContainsFunc(readOnly, func(p string) bool { return below(p, tree) })
		switch {
		case slices.Contains(emptied, tree):
		case holds:
			props = append(props, systemd.Property{Name: "TemporaryFileSystem", Value: []systemd.PathOptions{{Path: tree, Options: "ro"}}})
		default:
			shut = append(shut, "-"+tree) // "-": where it exists
		}
	}
	props = append(props, systemd.Property{Name: "InaccessiblePaths", Value: shut})
	for _, p := range readOnly {
		props = append(props, systemd.Property{Name: "BindReadOnlyPaths", Value: []systemd.BindMount{{Source: p, Destination: p}}})
	}
	return props
}
