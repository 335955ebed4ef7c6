// Package fetchunit describes the units that may use the network: one that downloads a model, and
// one that resolves the names of the hosts it may reach. The same values give the same properties.
//
// It owns what those units may see, write to and connect to. It must not read a file, call PID 1,
// or decide when a model is downloaded.
package fetchunit

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/systemd"
)

const (
	// Program is where the package installs pool-fetch.
	Program = "/usr/lib/pool-managerd/pool-fetch"
	// Slice is the slice of all units that use the network.
	Slice = "pool-fetch.slice"
	// User owns what was downloaded. A dynamic user would not do: files outlive the unit, and the
	// next download of the same model has to write beside them.
	User = "pool-fetch"
)

// Bounds of a download. Its page cache counts as memory and is reclaimed; what it holds itself is
// a few MiB for each connection.
const (
	fetchMemory = 1 << 30 // bytes
	fetchTasks  = 64
	lowWeight   = 20 // of 100: engines come first
)

// Fetch is a download of one artefact.
type Fetch struct {
	Program   string // path of pool-fetch
	Own       *Own   // another program that fetches; nil: pool-fetch
	ID        string // the instance: see Unit
	Ref       string // what is downloaded, for people
	CacheDir  string
	Directory string // name of the artefact's directory in CacheDir
	Request   []byte // on its standard input
	Output    string // file that its standard output is appended to
	Addresses []netip.Addr
	// Credentials are files that only PID 1 reads for it, by the name that it sees.
	Credentials []systemd.PathString
}

// Own is a program of the host's own that fetches.
type Own struct {
	Path  string
	Files []string // what it reads beside what every service does
}

// Unit returns the name of the unit that has an ID.
func Unit(id string) string { return "pool-fetch@" + id + ".service" }

// Properties are those of the unit. It is of Type=oneshot, so that its start job ends when the
// download does: a manager that started or found it waits for the job's signal.
func (f Fetch) Properties() []systemd.Property {
	directory, program := path.Join(f.CacheDir, f.Directory), f.Program
	if f.Own != nil {
		program = f.Own.Path
	}
	props := []systemd.Property{
		{Name: "Description", Value: "Download of " + oneLine(f.Ref)},
		{Name: "Type", Value: "oneshot"},
		{Name: "TimeoutStartUSec", Value: ^uint64(0)}, // it ends by itself when nothing arrives any longer
		{Name: "TimeoutStopUSec", Value: uint64(5_000_000)},
		{Name: "Slice", Value: Slice},
		// Outside of the sandbox, since the cache's directory is root's: it makes the artefact's
		// directory and hands it to the user.
		{Name: "ExecStartPreEx", Value: []systemd.ExecCommand{{Path: f.Program,
			Args: []string{f.Program, "directory", f.CacheDir, f.Directory, User}, Flags: []string{"privileged"}}}},
		{Name: "ExecStartEx", Value: []systemd.ExecCommand{{Path: program, Args: []string{program}}}},
		{Name: "User", Value: User},
		{Name: "Group", Value: User},
		{Name: "StandardInput", Value: "data"},
		{Name: "StandardInputData", Value: f.Request},
		{Name: "StandardOutputFileToAppend", Value: f.Output},
		{Name: "StandardError", Value: "journal"},
		{Name: "SyslogIdentifier", Value: "pool-fetch"},
		{Name: "LogExtraFields", Value: [][]byte{[]byte("MODEL_ID=" + oneLine(f.Ref))}},
		// The only tree that it may write to. Missing for the step that makes it, for which PID 1
		// binds it, too: this line and TemporaryFileSystem= hold outside of the sandbox.
		{Name: "BindPaths", Value: []systemd.BindMount{{Source: directory, Destination: directory, IgnoreMissing: true}}},
		{Name: "CPUWeight", Value: uint64(lowWeight)},
		{Name: "IOWeight", Value: uint64(lowWeight)},
		{Name: "MemoryMax", Value: uint64(fetchMemory)},
		{Name: "TasksMax", Value: uint64(fetchTasks)},
		{Name: "OOMScoreAdjust", Value: int32(500)},
	}
	if len(f.Credentials) > 0 {
		props = append(props, systemd.Property{Name: "LoadCredential", Value: f.Credentials})
	}
	return append(props, f.confined()...)
}

// installed are the trees of what packages install, which a program of the host's own may execute:
// a script needs a shell. What it downloads it may not.
var installed = []string{"/usr", "-/bin", "-/sbin", "-/lib", "-/lib32", "-/lib64"}

// confined is the sandbox of the program that fetches.
func (f Fetch) confined() []systemd.Property {
	props := confined(f.Program, f.CacheDir, f.Addresses)
	i := slices.IndexFunc(props, func(p systemd.Property) bool { return p.Name == "NoExecPaths" })
	// A mount of its own, which the line for "/" does not reach (seen on 257).
	props[i].Value = []string{"/", "-" + path.Join(f.CacheDir, f.Directory)}
	if f.Own == nil {
		return props
	}
	shut, empty := hidden(f.CacheDir), []systemd.PathOptions(nil)
	var binds []systemd.BindMount
	for _, p := range slices.Sorted(slices.Values(append(slices.Clone(f.Own.Files), f.Own.Path))) {
		binds = append(binds, systemd.BindMount{Source: p, Destination: p, Flags: unix.MS_REC})
		i := slices.IndexFunc(shut, func(tree string) bool { return below(p, tree[1:]) })
		if i < 0 {
			continue // it is seen as it is, or its tree is empty already
		}
		empty = append(empty, systemd.PathOptions{Path: shut[i][1:], Options: "ro"})
		shut = slices.Delete(shut, i, i+1)
	}
	for i := range props {
		switch props[i].Name {
		case "InaccessiblePaths":
			props[i].Value = shut
		case "ExecPaths":
			props[i].Value = slices.Concat(installed, []string{f.Program, f.Own.Path})
		}
	}
	if len(empty) > 0 {
		props = append(props, systemd.Property{Name: "TemporaryFileSystem", Value: empty})
	}
	return append(props, systemd.Property{Name: "BindReadOnlyPaths", Value: binds})
}

// below reports whether a path is a tree or in it.
func below(p, tree string) bool { return p == tree || strings.HasPrefix(p, tree+"/") }

// Resolve asks for the addresses of hosts.
type Resolve struct {
	Program     string
	Hosts       []string
	Nameservers []netip.Addr // of /etc/resolv.conf
}

// ResolveUnit is the name of the unit that resolves for the download of an ID.
func ResolveUnit(id string) string { return "pool-resolve@" + id + ".service" }

// Properties are those of the unit; its output is for the caller to capture, who also bounds its
// time.
func (r Resolve) Properties() []systemd.Property {
	props := []systemd.Property{
		{Name: "Description", Value: "Addresses of " + oneLine(strings.Join(r.Hosts, ", "))},
		{Name: "Slice", Value: Slice},
		{Name: "ExecStartEx", Value: []systemd.ExecCommand{{Path: r.Program,
			Args: append([]string{r.Program, "resolve"}, r.Hosts...), Flags: []string{"no-env-expand"}}}},
		{Name: "DynamicUser", Value: true},
		{Name: "SyslogIdentifier", Value: "pool-fetch"},
		{Name: "MemoryMax", Value: uint64(64 << 20)},
		{Name: "TasksMax", Value: uint64(32)},
	}
	return append(props, confined(r.Program, "", r.Nameservers)...)
}

// confined are the lines of the sandbox that both have: of the network the addresses, of the file
// system what is readable by everyone and belongs to no one, and no program but their own.
func confined(program, cache string, addresses []netip.Addr) []systemd.Property {
	allow := make([]systemd.AddressPrefix, 0, len(addresses))
	for _, a := range addresses {
		allow = append(allow, prefix(a))
	}
	return []systemd.Property{
		{Name: "IgnoreOnIsolate", Value: true},
		{Name: "CollectMode", Value: "inactive-or-failed"},
		{Name: "StartLimitIntervalUSec", Value: uint64(0)}, // the manager has a backoff
		{Name: "IPAddressDeny", Value: []systemd.AddressPrefix{
			{Family: unix.AF_INET, Address: make([]byte, 4)}, {Family: unix.AF_INET6, Address: make([]byte, 16)},
		}},
		{Name: "IPAddressAllow", Value: allow},
		{
			Name:  "RestrictAddressFamilies",
			Value: systemd.SetFilter{Allow: true, Members: []string{"AF_INET", "AF_INET6"}},
		},
		{Name: "NoNewPrivileges", Value: true},
		{Name: "CapabilityBoundingSet", Value: uint64(0)},
		{Name: "AmbientCapabilities", Value: uint64(0)},
		{Name: "PrivateUsers", Value: true},
		{Name: "ProtectSystem", Value: "strict"},
		{Name: "ProtectHome", Value: "tmpfs"}, // not "yes": the cache may be in one
		{Name: "InaccessiblePaths", Value: hidden(cache)},
		{Name: "NoExecPaths", Value: []string{"/"}},
		{Name: "ExecPaths", Value: []string{program}},
		{Name: "PrivateTmp", Value: true},
		{Name: "PrivateDevices", Value: true},
		{Name: "PrivateIPC", Value: true},
		{Name: "ProtectProc", Value: "invisible"},
		{Name: "ProcSubset", Value: "pid"},
		{Name: "ProtectClock", Value: true},
		{Name: "ProtectControlGroups", Value: true},
		{Name: "ProtectHostname", Value: true},
		{Name: "ProtectKernelLogs", Value: true},
		{Name: "ProtectKernelModules", Value: true},
		{Name: "ProtectKernelTunables", Value: true},
		{Name: "RestrictNamespaces", Value: uint64(0)},
		{Name: "RestrictRealtime", Value: true},
		{Name: "RestrictSUIDSGID", Value: true},
		{Name: "LockPersonality", Value: true},
		{Name: "MemoryDenyWriteExecute", Value: true},
		{Name: "KeyringMode", Value: "private"},
		{Name: "RemoveIPC", Value: true},
		{Name: "UMask", Value: uint32(0o022)}, // engines are other users, and read what was downloaded
		{Name: "LimitCORE", Value: uint64(0)},
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		{Name: "SystemCallFilter", Value: systemd.SetFilter{Allow: true, Members: []string{"@system-service"}}},
		{Name: "SystemCallFilter", Value: systemd.SetFilter{Members: []string{"@privileged", "@resources"}}},
		{Name: "SystemCallFilter", Value: systemd.SetFilter{Members: systemd.IOUring()}},
		{Name: "SystemCallErrorNumber", Value: int32(unix.EPERM)},
	}
}

// private are trees that hold what is other programs' own.
var private = []string{
	"/etc/pool-managerd",
	"/media",
	"/mnt",
	"/opt",
	"/run/dbus",
	"/run/pool-engine",
	"/run/pool-managerd",
	"/srv",
	"/var/backups",
	"/var/lib",
	"/var/log",
	"/var/mail",
	"/var/spool",
	"/boot",
	"/efi",
}

// hidden are the private trees, without one that the cache is in.
func hidden(cache string) []string {
	var shut []string
	for _, tree := range private {
		if !below(cache, tree) {
			shut = append(shut, "-"+tree) // "-": where it exists
		}
	}
	return shut
}

// prefix is one address.
func prefix(a netip.Addr) systemd.AddressPrefix {
	a = a.Unmap()
	family := int32(unix.AF_INET6)
	if a.Is4() {
		family = unix.AF_INET
	}
	return systemd.AddressPrefix{Family: family, Address: a.AsSlice(), Prefix: uint32(a.BitLen())}
}

// oneLine is a text for a line of the journal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
