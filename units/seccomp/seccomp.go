// Package seccomp makes the system call filter of an engine that a container engine runs, as the
// runtime specification of the OCI has it: the calls that the unit's own filter permits to an
// engine without one.
//
// It owns the list of calls. It is pure: it reads and writes no file, and knows no engine.
package seccomp

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// calls are those of @system-service of systemd 262 without @privileged and @resources
// (systemd-analyze syscall-filter), and without those that open a namespace or a socket, also by
// io_uring.
//
//go:embed calls.txt
var calls string

// namespaces are the flags of clone(2) that open one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Options are what an engine has beyond the filter of all.
type Options struct {
	Arch    string   // of the host, as GOARCH has it
	Allow   []string // more calls
	Netlink bool     // sockets of AF_NETLINK
}

// Profile returns the filter. A call that it does not have fails with EPERM: the engine can do
// without it. clone3(2), whose flags no filter can see, fails as on a kernel without it, and the C
// library uses clone(2).
func Profile(o Options) *specs.LinuxSeccomp {
	refused, missing := uint(unix.EPERM), uint(unix.ENOSYS)
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &refused}
	if arch, known := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[o.Arch]; known {
		p.Architectures = []specs.Arch{arch}
	}
	names := slices.Concat(strings.Fields(calls), o.Allow)
	slices.Sort(names)
	p.Syscalls = []specs.LinuxSyscall{
		{Names: slices.Compact(names), Action: specs.ActAllow},
		{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
			{Index: 0, Value: namespaces, Op: specs.OpMaskedEqual}}},
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &missing},
	}
	families := []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}
	if o.Netlink {
		families = append(families, unix.AF_NETLINK)
	}
	for _, family := range families {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: family, Op: specs.OpEqualTo}}})
	}
	return p
}

// Marshal returns the filter as the file that --security-opt seccomp= of podman takes.
func Marshal(o Options) ([]byte, error) { return json.Marshal(Profile(o)) }
