package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// The engine's user in a container, and how many user ids podman maps for it.
const (
	containerUser = "1000:1000"
	containerIDs  = "1024"
)

// sigtermStatus is the status with which podman's monitor and docker's client end when the engine
// ended by SIGTERM.
const sigtermStatus = 128 + int32(unix.SIGTERM)

// podmanLines are the unit of an engine that podman runs. Podman is root in it, and so are the
// lines that can hold for it too; the rest of the sandbox is said again in podman's words
// (docs/adr/0068-podman-runs-in-the-unit.md).
func podmanLines(p *Plan, s shown, relaxed allowance) []Line {
	in := p.in
	return slices.Concat(
		unitLines(in),
		targetLines(in.Host),
		restartLines(in),
		podmanExecLines(in, p.command, s),
		podmanDirectoryLines(in),
		logLines(in, p.SpecHash),
		accountingLines(),
		podmanSandboxLines(relaxed, s),
		podmanNetworkLines(relaxed),
		podmanDeviceLines(in.Mask),
		p.limits,
	)
}

func podmanExecLines(in Input, command engine.Command, s shown) []Line {
	end := []string{in.Prepared.Image.Podman, "rm", "--force", "--ignore", containerName(in)}
	endLine := Line{Section: sectionService, Key: "ExecStopPost", Text: "-:" + words(end),
		Why: "what is left of the container where podman's monitor was killed", Property: systemd.Property{
			Name: "ExecStopPost", Value: []systemd.PlainCommand{{Path: end[0], Args: end, IgnoreFailure: true}}}}
	if in.Host.ExecFlags {
		endLine.Property = flagged("ExecStopPostEx", end, "ignore-failure", "no-env-expand")
	}
	lines := []Line{
		text("Slice", pool.Slice, "all engines in one slice, for systemd-cgtop and common limits"),
		text("Type", "notify", "started means that the engine is executed, which podman reports"),
		text("NotifyAccess", "all", "the report names podman's monitor as the main process; it ends with the engine's status"),
	}
	lines = append(lines, filterStep(in)...)
	lines = append(lines, privileged(in.Host, "ExecStartPre", placesArgv(in, s, places),
		"makes in the image the places of the mounts: its folders belong to a user that the container does not have, "+
			"so that not even its root can")...)
	lines = append(lines, commandLines(in.Host,
		commands{engine: podmanArgv(in, command, s), gate: gateArgv(in), memory: memoryArgv(in), gpu: gpuArgv(in)})...)
	lines = append(lines, endLine,
		text("KillMode", "mixed", "SIGTERM to podman's monitor, which passes it on, then SIGKILL to all that remain"),
		yes("SendSIGKILL", "an engine that hangs in a driver call must not keep the unit running"),
		endedBySIGTERM("podman's monitor"),
		text("OOMPolicy", "kill", "when the kernel kills one process of the engine, kill all at once"),
	)
	lines = append(lines, processLines(in)...)
	return append(lines,
		number("LimitCORE", uint64(0), "a core dump of a loaded model delays the restart by minutes and "+
			"contains prompts"),
		mode("UMask", 0o077, "files of the engine are private"),
	)
}

// filterStep writes what --security-opt=seccomp= names.
func filterStep(in Input) []Line {
	profile := []string{gatePath(in), "seccomp", "--out", profilePath(in)}
	if calls := allowedCalls(in); len(calls) > 0 {
		profile = append(profile, "--allow", strings.Join(calls, ","))
	}
	if allowed(in)[relax.Netlink] != "" {
		profile = append(profile, "--netlink")
	}
	return privileged(in.Host, "ExecStartPre", profile,
		"writes the engine's system call filter: the unit's own would be "+containerEngine(in)+"'s, too")
}

func containerName(in Input) string { return "pool-engine-" + replica(in).FileStem() }

// startDirectory holds what podman or docker reads at the start.
func startDirectory(in Input) string { return directoryName(in) + "." + containerEngine(in) }
func profilePath(in Input) string    { return "/run/" + startDirectory(in) + "/seccomp.json" }

// containerEngine is the name of what runs the image beside PID 1.
func containerEngine(in Input) string {
	if in.Prepared.ByDocker() {
		return pool.RuntimeDocker
	}
	return pool.RuntimePodman
}

// allowedCalls are the system calls of the pool's relaxations.
func allowedCalls(in Input) []string {
	var calls []string
	why := allowed(in)
	for _, r := range relax.Table() {
		if why[r.Name] != "" {
			calls = append(calls, r.Calls...)
		}
	}
	return calls
}

// places are those of what podman and crun mount by themselves, and of containerTemporary.
var places = []string{"/dev", "/etc/hostname", "/proc", "/run", "/sys", "/tmp", "/var/tmp"}

// placesArgv is the step that does in the image what PID 1 does for RootDirectory=.
func placesArgv(in Input, s shown, places []string) []string {
	argv := []string{gatePath(in), "places", "--root", in.Prepared.Image.Root}
	for _, m := range driverOf(in) {
		argv = append(argv, "--driver", m.Host+":"+m.Inside)
	}
	return slices.Concat(argv, places, []string{stateDirectory(in), cacheDirectory(in)}, s.Bound, s.Writable)
}

// podmanArgv is the command that starts the container and ends; podman's monitor stays.
func podmanArgv(in Input, command engine.Command, s shown) []string {
	argv := []string{in.Prepared.Image.Podman, "--runtime=crun", "run", "--name=" + containerName(in),
		"--replace", "--rm", "--detach",
		// No control group of its own: limits, accounts and the policies of devices and addresses
		// are those of the unit, and a change of a limit reaches the engine.
		"--cgroups=disabled",
		"--sdnotify=conmon", "--log-driver=passthrough",
		"--userns=auto:size=" + containerIDs, "--user=" + containerUser,
		"--cap-drop=all", "--security-opt=no-new-privileges", "--security-opt=seccomp=" + profilePath(in),
		"--network=host", // the unit's, which has the loopback alone
		"--no-hosts", "--dns=none", "--ipc=private", "--pid=private", "--uts=private",
		"--pull=never", "--read-only", "--passwd=false", "--ulimit=host", "--umask=0077",
		"--workdir=" + stateDirectory(in),
	}
	// notmpcopyup: what the image has there is not copied, whose owner podman could not keep.
	argv = append(argv, containerTemporary(in, "", ",notmpcopyup")...)
	argv = append(argv, containerVariables(in, command)...)
	argv = append(argv, containerDevices(in)...)
	for _, dir := range []string{stateDirectory(in), cacheDirectory(in)} {
		argv = append(argv, image.Bind(dir, dir, "U=true"))
	}
	for _, path := range s.Bound {
		argv = append(argv, image.Bind(path, path, "readonly=true"))
	}
	for _, path := range s.Writable {
		argv = append(argv, image.Bind(path, path))
	}
	// Without ":O", a layer above: podman before 5.5 then forgets to map the user ids.
	argv = append(argv, "--rootfs", in.Prepared.Image.Root, in.Prepared.Binary)
	return append(argv, command.Args...)
}

// containerVariables are the engine's, and not those of the container engine.
func containerVariables(in Input, command engine.Command) (options []string) {
	for _, line := range environmentLines(in, command) {
		if line.Key == "Environment" {
			options = append(options, "--env="+line.Property.Value.([]string)[0])
		}
	}
	return options
}

// containerDevices are the nodes of the GPUs, and the driver's files as mounts: a container
// engine's own reading of the description would execute its hooks, which write into the image.
func containerDevices(in Input) (argv []string) {
	if len(in.Mask) == 0 {
		return nil
	}
	for _, node := range append(neededNodes(in.Mask), sharedNodes[0]) {
		argv = append(argv, "--device="+node)
	}
	for _, m := range driverOf(in) {
		argv = append(argv, image.Bind(m.Host, m.Inside, "readonly=true"))
	}
	return argv
}

// containerTemporary are the file systems in memory; executable is the option that a container
// engine wants for what it does not make noexec.
func containerTemporary(in Input, executable, more string) []string {
	size := ""
	if bytes := in.Host.MemoryBytes / temporaryShare; bytes > 0 {
		size = ",size=" + strconv.FormatUint(bytes, 10)
	}
	shm := strings.TrimPrefix(sharedMemory(in).Text, sharedMemoryPath+":")
	if !strings.Contains(shm, "noexec") {
		shm += executable
	}
	return []string{
		"--tmpfs=/run:rw,nosuid,nodev,noexec,mode=755" + more,
		"--tmpfs=/tmp:rw,nosuid,nodev,mode=1777" + executable + more + size,
		"--tmpfs=/var/tmp:rw,nosuid,nodev,mode=1777" + executable + more + size,
		"--tmpfs=" + sharedMemoryPath + ":rw" + more + "," + shm,
	}
}

func podmanDirectoryLines(in Input) []Line {
	return append([]Line{
		list("StateDirectory", directoryName(in), "the only directories that the engine may write to, besides a private /tmp; "+
			"podman gives them to the engine's user"),
		mode("StateDirectoryMode", 0o700, "not readable by other engines"),
		list("CacheDirectory", directoryName(in), "caches, such as compiled kernels, survive a restart"),
		mode("CacheDirectoryMode", 0o700, "not readable by other engines"),
		list("RuntimeDirectory", startDirectory(in), "the system call filter, new at each start"),
		mode("RuntimeDirectoryMode", 0o700, "root's alone"),
	}, quotaLines(in)...)
}

// podmanCapabilities are what podman and crun need to make a container; the engine has none.
var podmanCapabilities = []struct {
	name string
	bit  uint64
}{
	{"CAP_CHOWN", unix.CAP_CHOWN}, {"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	{"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH}, {"CAP_FOWNER", unix.CAP_FOWNER},
	{"CAP_FSETID", unix.CAP_FSETID}, {"CAP_KILL", unix.CAP_KILL}, {"CAP_SETGID", unix.CAP_SETGID},
	{"CAP_SETUID", unix.CAP_SETUID}, {"CAP_SETPCAP", unix.CAP_SETPCAP}, {"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	{"CAP_SYS_RESOURCE", unix.CAP_SYS_RESOURCE}, {"CAP_MKNOD", unix.CAP_MKNOD}, {"CAP_SETFCAP", unix.CAP_SETFCAP},
}

// podmanSandboxLines are those of the sandbox that podman can live with. Each holds for the engine,
// too, which cannot leave the unit's control group, nor a filter that was set before it.
func podmanSandboxLines(why allowance, s shown) []Line {
	var names []string
	var set uint64
	for _, c := range podmanCapabilities {
		names, set = append(names, c.name), set|1<<c.bit
	}
	return []Line{
		yes("NoNewPrivileges", "set-user-id programs gain no privileges"),
		{Section: sectionService, Key: "CapabilityBoundingSet", Text: strings.Join(names, " "),
			Why: "what podman needs to make a container; the engine has no capability", Property: systemd.Property{
				Name: "CapabilityBoundingSet", Value: set}},
		text("ProtectSystem", "full", "podman writes to /var and /run only; the engine's file system is the image, read-only"),
		podmanHome(s),
		yes("PrivateTmp", "a private /tmp for podman; the engine's is in memory"),
		yes("ProtectClock", "it cannot change the clock"),
		yes("RestrictRealtime", "no real-time priority that starves the host"),
		yes("LockPersonality", "no other execution domain"),
		writeExecute(why),
		{Section: sectionService, Key: "SystemCallArchitectures", Text: "native", Why: "no 32-bit calls that bypass the filter",
			Property: systemd.Property{Name: "SystemCallArchitectures", Value: []string{"native"}}},
		text("KeyringMode", "private", "no keys of other services"),
	}
}

// podmanHome hides the homes, but for what the container shows of them.
func podmanHome(s shown) Line {
	if slices.ContainsFunc(slices.Concat(s.Bound, s.Writable), func(p string) bool {
		return confine.Within(p, homes) != ""
	}) {
		return text("ProtectHome", "read-only", "podman shows the engine what is in one, and nothing else of them")
	}
	return text("ProtectHome", "yes", "/home, /root and /run/user are inaccessible")
}

// podmanNetworkLines restrict the addresses by the unit's control group, which is the engine's,
// too.
func podmanNetworkLines(why allowance) []Line {
	lines := loopbackLines(why)
	for i, line := range lines {
		if line.Key == "RestrictAddressFamilies" {
			lines[i] = filter("RestrictAddressFamilies", true, []string{"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"},
				"no packet or exotic socket; AF_NETLINK is for crun: the engine has it only where it is relaxed")
		}
	}
	return lines
}

// podmanDeviceLines allow what deviceLines do. The node's group is not that of the engine's user,
// who has none on the host.
func podmanDeviceLines(devices []Device) []Line {
	lines := slices.DeleteFunc(deviceLines(devices), func(l Line) bool {
		return l.Key == "PrivateDevices" || l.Key == "SupplementaryGroups"
	})
	return lines
}

// checkPodman refuses what podman cannot give an engine, where it did not come from a pool's file.
func checkPodman(in Input) error {
	if !in.Prepared.ByPodman() {
		return nil
	}
	if len(in.Pool.EnvFiles) > 0 || in.Pool.APIKeyFile != "" || in.Pool.Sandbox.Network == pool.NetworkNone {
		return fmt.Errorf("render %s: a pool with env_file, api_key_file or without a network cannot be run by podman",
			replica(in))
	}
	return nil
}
