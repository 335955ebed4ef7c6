package render

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// dockerLines are the unit of an engine that docker runs. Its main process is docker's client, in
// the sandbox of any engine but for docker's socket; the engine is moved into the unit, and its own
// sandbox is said in docker's words (docs/adr/0069-docker-runs-in-the-unit.md).
func dockerLines(p *Plan, relaxed allowance) []Line {
	in, client := p.in, dockerClient(p.in)
	shown := shownPaths(client)
	return slices.Concat(
		unitLines(in),
		[]Line{inUnit(list("After", "docker.service", "at a shutdown it ends before docker does"))},
		targetLines(in.Host),
		restartLines(in),
		dockerExecLines(in, p.command, shownPaths(in)),
		dockerDirectoryLines(client),
		logLines(in, p.SpecHash),
		accountingLines(),
		sandboxLines(client, nil, shown),
		beside(dockerTreeLines(client, shown), dockerBinds(in)),
		networkLines(in, relaxed),
		dockerDeviceLines(in.Mask),
		p.limits,
	)
}

// dockerClient is the client as an engine of the host, which reads the image and nothing of the
// pool's.
func dockerClient(in Input) Input {
	client := in
	client.Prepared = pool.Prepared{Binary: in.Prepared.Image.Docker, Version: in.Prepared.Version}
	client.Staged = pool.Staged{}
	client.Pool.Writable, client.Pool.Files, client.Pool.Args = []string{in.Prepared.Image.Root}, nil, nil
	return client
}

// dockerTreeLines are the trees that the client sees. The image is writable for the step of root
// that makes places in it; it belongs to pool-fetch, so that the client itself cannot write.
func dockerTreeLines(client Input, s shown) []Line {
	lines := treeLines(client, engine.Command{}, s)
	for i := range lines {
		if lines[i].Key == "BindPaths" && slices.Contains(s.Writable, lines[i].Text) {
			lines[i].Why = "the image, whose names docker's client gives to docker; root's step makes places in it"
		}
	}
	return lines
}

func dockerExecLines(in Input, command engine.Command, s shown) []Line {
	name := []string{"--client", in.Prepared.Image.Docker, "--name", containerName(in)}
	step := func(does string) []string { return slices.Concat([]string{gatePath(in), "docker", does}, name) }
	end := Line{Section: sectionService, Key: "ExecStopPost", Text: "-:" + words(step("remove")),
		Why: "what is left of the container where docker's client was killed"}
	end.Property = systemd.Property{Name: "ExecStopPost",
		Value: []systemd.PlainCommand{{Path: gatePath(in), Args: step("remove"), IgnoreFailure: true}}}
	if in.Host.ExecFlags {
		end.Property = flagged("ExecStopPostEx", step("remove"), "ignore-failure", "no-env-expand")
	}
	lines := []Line{
		text("Slice", pool.Slice, "all engines in one slice, for systemd-cgtop and common limits"),
		text("Type", "exec", "started means executed: a missing or broken client fails the start"),
	}
	lines = append(lines, filterStep(in)...)
	lines = append(lines, privileged(in.Host, "ExecStartPre",
		placesArgv(in, s, slices.Concat(places, []string{"/etc/hosts", "/etc/resolv.conf"})),
		"makes in the image the places of the mounts: docker shows it read-only")...)
	commands := commandLines(in.Host, commands{engine: dockerArgv(in, command, s), gate: gateArgv(in),
		memory: memoryArgv(in), gpu: gpuArgv(in)})
	attach := privileged(in.Host, "ExecStartPost", step("attach"),
		"moves the engine out of docker's control group into this one, whose limits, accounts and policies are then "+
			"its; until then it does not run")
	before := slices.IndexFunc(commands, func(l Line) bool { return l.Key == "ExecStartPost" })
	lines = append(lines, slices.Insert(commands, before, attach...)...)
	lines = append(lines, end,
		text("KillMode", "mixed", "SIGTERM to docker's client, which passes it on, then SIGKILL to all that remain"),
		yes("SendSIGKILL", "an engine that hangs in a driver call must not keep the unit running"),
		endedBySIGTERM("docker's client"),
		text("OOMPolicy", "kill", "when the kernel kills one process of the engine, kill all at once"),
	)
	return append(lines,
		number("LimitCORE", uint64(0), "a core dump of a loaded model delays the restart by minutes and "+
			"contains prompts"),
		mode("UMask", 0o077, "files of the engine are private"),
	)
}

// dockerArgv is the command that becomes docker's client.
func dockerArgv(in Input, command engine.Command, s shown) []string {
	argv := []string{gatePath(in), "docker", "run", "--client", in.Prepared.Image.Docker, "--name", containerName(in),
		"--root", in.Prepared.Image.Root, "--gate", gatePath(in), "--unit", replica(in).Unit()}
	if allowed(in)[relax.JIT] == "" {
		argv = append(argv, "--sealed")
	}
	if len(in.Mask) > 0 {
		argv = append(argv, "--group", "video") // as deviceLines has it
	}
	network := "host" // the unit's fence holds in it
	if withoutNetwork(in) {
		network = "none"
	}
	argv = append(argv, "--", "--rm", "--pull=never", "--log-driver=none", "--no-healthcheck", "--userns=host",
		"--network="+network, "--ipc=none", "--read-only",
		"--cap-drop=ALL", "--security-opt=no-new-privileges", "--security-opt=seccomp="+profilePath(in),
		"--workdir="+stateDirectory(in), "--label=pool="+in.Pool.ID, "--label=replica="+replica(in).Name())
	argv = append(argv, dockerLimits(in)...)
	argv = append(argv, containerTemporary(in, ",exec", "")...)
	argv = append(argv, containerVariables(in, command)...)
	argv = append(argv, containerDevices(in)...)
	own := []string{stateDirectory(in), cacheDirectory(in)}
	if withoutNetwork(in) {
		own = append(own, runtimeDirectory(in))
	}
	for _, path := range slices.Concat(own, s.Writable) {
		argv = append(argv, image.Bind(path, path))
	}
	for _, path := range s.Bound {
		argv = append(argv, image.Bind(path, path, "readonly=true"))
	}
	return slices.Concat(argv, []string{"--", in.Prepared.Binary}, command.Args)
}

// dockerLimits are those that a process gets when it starts, and which the engine does not inherit.
func dockerLimits(in Input) []string {
	options := []string{"--ulimit=core=0"}
	for _, line := range processLines(in) {
		value := line.Text
		if value == "infinity" {
			value = "-1"
		}
		switch line.Key {
		case "LimitNOFILE":
			options = append(options, "--ulimit=nofile="+value)
		case "LimitMEMLOCK":
			options = append(options, "--ulimit=memlock="+value)
		}
	}
	return options
}

// endedBySIGTERM takes the status for a success with which a container engine reports that signal.
func endedBySIGTERM(by string) Line {
	return Line{Section: sectionService, Key: "SuccessExitStatus", Text: strconv.Itoa(int(sigtermStatus)),
		Why: "as " + by + " ends for an engine that ended by SIGTERM",
		Property: systemd.Property{Name: "SuccessExitStatus",
			Value: systemd.ExitStatusSet{Statuses: []int32{sigtermStatus}, Signals: []int32{}}}}
}

// dockerDirectoryLines are those of any engine, and one for what docker's client reads.
func dockerDirectoryLines(client Input) []Line {
	lines := beside(directoryLines(client), []Line{list("RuntimeDirectory",
		directoryName(client)+"."+pool.RuntimeDocker, "the system call filter, new at each start")})
	if !withoutNetwork(client) {
		lines = append(lines, mode("RuntimeDirectoryMode", 0o700, "not the engine's to see"))
	}
	return lines
}

// beside adds lines, each after those of its key: a property is sent once.
func beside(lines, more []Line) []Line {
	for _, line := range more {
		at := len(lines)
		for i := range lines {
			if lines[i].Key == line.Key {
				at = i + 1
			}
		}
		lines = slices.Insert(lines, at, line)
	}
	return lines
}

// dockerBinds show the client docker's socket and its own directory in the unit's empty /run.
func dockerBinds(in Input) []Line {
	bind := func(key, path, why string) Line {
		return Line{Section: sectionService, Key: key, Text: path, Why: why, Property: systemd.Property{Name: key,
			Value: []systemd.BindMount{{Source: path, Destination: path, Flags: mSRec}}}}
	}
	return []Line{
		bind("BindReadOnlyPaths", pool.DockerSocket, "for docker's client: who may connect to it is root of this host. "+
			"The engine does not see it"),
		bind("BindPaths", "/run/"+startDirectory(in), "for the step that writes the system call filter"),
	}
}

// dockerDeviceLines are those of any engine, and the group that may connect to docker.
func dockerDeviceLines(devices []Device) []Line {
	lines := slices.DeleteFunc(deviceLines(devices), func(l Line) bool { return l.Key == "SupplementaryGroups" })
	return append(lines, list("SupplementaryGroups", pool.DockerGroup, "docker's client connects to docker's socket; "+
		"the engine is in no group of the host but those of its GPUs"))
}

// checkDocker refuses what docker cannot give an engine, where it did not come from a pool's file.
func checkDocker(in Input) error {
	if !in.Prepared.ByDocker() {
		return nil
	}
	p := in.Pool
	if len(p.EnvFiles) > 0 || p.APIKeyFile != "" || p.Process.Nice != 0 || p.Process.NUMAPolicy != "" {
		return fmt.Errorf("render %s: a pool with env_file, api_key_file, nice or numa_policy cannot be run by docker",
			replica(in))
	}
	return nil
}
