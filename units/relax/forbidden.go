package relax

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// forbidden is what no key of a pool's file permits.
type forbidden struct {
	calls string // a regular expression of calls and programs
	what  string // for "the sandbox forbids every engine …"
	line  string // of the unit
	hint  string // "": notPermitted
}

// notPermitted is the hint where an engine can only do without.
const notPermitted = "No key of a pool's file permits it: turn off the part of the program that does it, " +
	"or run that part outside of the engine."

// denials lists them. Their patterns match together with an error only.
func denials() []forbidden {
	const calls = "SystemCallFilter="
	return []forbidden{
		{`\bptrace|process_vm_(?:readv|writev)|pidfd_getfd|\bkcmp\b|py-spy|\bstrace|\bgdb\b`, "to look into another process", calls, ""},
		{`perf_event`, "to use the kernel's profiler", calls, ""},
		{`\bbpf\b|BPF_\w+`, "to load programs into the kernel", calls, ""},
		{`add_key|request_key|keyctl`, "to use the kernel's keyring", calls, ""},
		{`userfaultfd`, "to handle page faults", calls, ""},
		{`io_uring`, "to use io_uring", calls, ""},
		{`fanotify`, "to watch a file system", calls, ""},
		{`\bu?mount\b|fusermount|pivot_root|\bchroot\b`, "to mount, or to change its root", calls, ""},
		{`\bmknod`, "to make device nodes", calls, ""},
		{`clock_settime|settimeofday|adjtimex|set the (?:system )?(?:clock|time)\b`, "to set the clock", "ProtectClock=", ""},
		{`capset|cap_set_proc|\bsetcap\b`, "to change its capabilities", "CapabilityBoundingSet=", ""},
		{`\biopl\b|\bioperm\b`, "to use the ports of hardware", calls, ""},
		{`open_by_handle_at`, "to open files by a handle", calls, ""},
		{`read kernel buffer|\bdmesg\b|/dev/kmsg`, "to read the kernel's log", "ProtectKernelLogs=", ""},
		{`sethostname|setdomainname`, "to change the host's name", calls, ""},
		{`swapon|swapoff|\breboot\b|kexec`, "to control the host", calls, ""},
		{`personality|setarch`, "to change its personality", "LockPersonality=", ""},
		{`init_module|modprobe|insmod`, "to load kernel modules", "ProtectKernelModules=",
			"Load the module on the host, at each boot by a file in /etc/modules-load.d."},
		{`SOCK_RAW|raw socket|\bping\b|icmp|tcpdump|libpcap`, "to use raw sockets", "CapabilityBoundingSet=", ""},
		{`\bchmod\b`, "to set the setuid bit, and to change files that are not its own", "RestrictSUIDSGID=, DynamicUser=", ""},
		{`os\.kill\b|\bkill: \(`, "to signal a process that is not its own", "DynamicUser=", ""},
		{`\bbind\b|\blisten EACCES`, "to listen on a port below 1024", "CapabilityBoundingSet=",
			"Let it listen on the port that the pool has: {port} in args, or PORT in the environment."},
	}
}

// finding is the finding that no pool is permitted this.
func (f forbidden) finding() Finding {
	hint := f.hint
	if hint == "" {
		hint = notPermitted
	}
	return Finding{"the sandbox forbids every engine " + f.what + " (" + f.line + ")", hint}
}

// otherFamilies are the families of sockets, beside netlink and the Internet's, that no unit has.
var otherFamilies = pattern.Lazy(`\b(?:AF|PF)_(?:PACKET|VSOCK|CAN|BLUETOOTH|ALG|RDS|TIPC|XDP|IB)\b`)

// otherFamily returns the family that a line, or one shortly before it, names; "": none.
func (run Run) otherFamily(line string) string {
	i := slices.Index(run.Lines, line)
	if i < 0 {
		return ""
	}
	return otherFamilies().FindString(strings.Join(run.Lines[max(i-traceback, 0):i+1], " "))
}

// outside is the finding for a socket or file of the host's /run.
func (run Run) outside(line string) (f Finding, ok bool) {
	if strings.Contains(line, "/run/pool-engine/") {
		return f, false // its own
	}
	hint := "An engine uses no message bus, container engine or other service of the host over a socket: " +
		"turn that part of the program off."
	if containers().MatchString(line) {
		hint += ` An engine in an image is a pool with [provisioning] mode = "container" and image.`
	}
	return Finding{"the sandbox gives an engine an empty /run: it reaches no socket of the host " +
		"(TemporaryFileSystem=/run)", hint}, true
}

// containers finds the names of container engines.
var containers = pattern.Lazy(`(?i)\b(?:docker|podman|containerd|nerdctl)\b`)

// loopback finds an address of the engine's own host.
var loopback = pattern.Lazy(`(?i)\b127(?:\.\d{1,3}){3}\b|\blocalhost\b|(?:^|[^0-9a-f:])::1\b`)

// resolver finds a question to a name server, which may be one of the engine's own host, as Go
// reports it.
var resolver = pattern.Lazy(`\blookup \S+ on `)

// elsewhere is the finding for another host that cannot be reached or found. A connection to the
// engine's own host that fails has another cause: a part of the engine does not answer.
func (run Run) elsewhere(line string) (f Finding, ok bool) {
	if loopback().MatchString(line) && !resolver().MatchString(line) {
		return f, false
	}
	return Finding{"the sandbox lets no engine reach another host (IPAddressDeny=)",
		"Download models, tokenizers and packages to this host before, and name their path: an engine fetches " +
			"nothing."}, true
}

// device is the finding for a device that the engine does not see, or may not open.
func (run Run) device(line string) (f Finding, ok bool) {
	path := pathIn(line)
	name, below := strings.CutPrefix(path, "/dev/")
	first, _, _ := strings.Cut(name, "/")
	ours := []string{"shm", "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "fd", "stdin", "stdout",
		"stderr", "mqueue", "log"}
	if !below || slices.Contains(ours, first) {
		return f, false
	}
	hint := "Devices other than NVIDIA's GPUs are not given to engines."
	if strings.HasPrefix(first, "nvidia") {
		hint = "devices = [0] in the pool's file gives it a GPU; poolctl devices lists them."
	}
	return Finding{fmt.Sprintf("the sandbox shows an engine no device but the GPUs of its pool, and so not %s "+
		"(PrivateDevices=, DevicePolicy=closed)", path), hint}, true
}

// limit is the finding that a limit of the unit was reached, which a key sets.
func limit(what, line, key string) func(Run, string) (Finding, bool) {
	return func(Run, string) (Finding, bool) {
		return Finding{fmt.Sprintf("it may have reached its limit of %s (%s)", what, line),
			fmt.Sprintf("[limits] %s in the pool's file raises it.", key)}, true
	}
}
