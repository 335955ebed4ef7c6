// Package docker runs an engine of an unpacked image by docker, inside the unit of the engine.
//
// docker's daemon starts a container in a control group of its own. The first program of ours in
// the container waits there, a step of the unit that PID 1 runs as root moves it into the unit's
// control group, and then it becomes the engine: limits, accounts, devices and addresses are those
// of the unit. The package owns that way, and what docker is asked for. It knows no pool.
package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Failed is the exit status where there is no container, as docker's client has it (docker-run(1)),
// and noProgram that of an engine that cannot be executed.
const (
	Failed    = 125
	NoProgram = 127
)

// inside is the path of pool-gate in a container.
const inside = "/pool-gate"

// environment is that of docker's client. It reads no configuration: the home directory is the
// engine's, which could name a program there that the client executes.
func environment() []string {
	return []string{"DOCKER_HOST=unix://" + pool.DockerSocket, "DOCKER_CONFIG=/nonexistent", "HOME=/nonexistent",
		"DOCKER_CLI_HINTS=false", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
}

// Container is an engine's container.
type Container struct {
	Docker string // path of docker's client
	Name   string
}

func (c Container) client(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Docker, args...)
	cmd.Env = environment()
	return cmd
}

// Remove removes what a former run left. docker's error is not shown: there is a container in few
// cases, and one that stays is the error of the next start.
func (c Container) Remove(ctx context.Context) {
	_ = c.client(ctx, "rm", "--force", "--volumes", c.Name).Run()
}

// Start is what runs in a container.
type Start struct {
	Root    string   // the file system of the image
	Unit    string   // the unit of the engine
	Gate    string   // path of pool-gate on the host
	Groups  []string // of the host, which own device nodes of the engine
	Sealed  bool     // memory that is writable and executable is refused
	Options []string // of docker run
	Engine  []string // the engine, and its arguments
}

// Run becomes docker's client, which runs the container in the foreground. It returns only an
// error.
func (c Container) Run(ctx context.Context, s Start) error {
	c.Remove(ctx)
	if err := c.load(ctx); err != nil {
		return err
	}
	mounts, err := mounts(s.Root)
	if err != nil {
		return fmt.Errorf("the engine's image: %w", err)
	}
	groups, err := numbers(s.Groups)
	if err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	argv := c.argv(s, fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), groups, mounts)
	return fmt.Errorf("execute %s: %w", c.Docker, unix.Exec(c.Docker, argv, environment()))
}

// argv is the command line of the client.
func (c Container) argv(s Start, user string, groups, mounts []string) []string {
	argv := slices.Concat([]string{c.Docker, "run", "--name=" + c.Name, "--user=" + user}, s.Options, groups, mounts,
		[]string{image.Bind(s.Gate, inside, "readonly=true"), empty, inside, "docker", "enter", "--unit=" + s.Unit})
	if s.Sealed {
		argv = append(argv, "--sealed")
	}
	return slices.Concat(argv, []string{"--"}, s.Engine)
}

// numbers are the options for groups of the host, which are others in an image.
func numbers(names []string) (options []string, err error) {
	for _, name := range names {
		g, err := user.LookupGroup(name)
		if err != nil {
			return nil, err
		}
		options = append(options, "--group-add="+g.Gid)
	}
	return options, nil
}

// own are the names at the top of a file system that an image does not give to a container: they
// are docker's, or the engine's.
var own = []string{".dockerenv", "dev", "pool-gate", "proc", "run", "sys", "tmp"}

// mounts show an unpacked image in a container, read-only: docker has no option for a root
// directory, so that each name at its top is a mount. Links there are followed within the image.
func mounts(root string) ([]string, error) {
	tree, err := image.OpenTree(root)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var options []string
	for _, entry := range entries {
		if slices.Contains(own, entry.Name()) {
			continue
		}
		at, err := tree.Where("/" + entry.Name())
		if err != nil { // a link that leads nowhere
			continue
		}
		if first, _, _ := strings.Cut(strings.TrimPrefix(at, "/"), "/"); at == "/" || slices.Contains(own, first) {
			continue
		}
		options = append(options, image.Bind(path.Join(root, at), "/"+entry.Name(), "readonly=true"))
	}
	return options, nil
}

// Attach moves the container's first process into the caller's control group, which is the unit's.
// The process main is docker's client: where it has ended there is nothing to wait for.
func (c Container) Attach(ctx context.Context, main int) error {
	group := controlGroup()
	if group == "" {
		return errors.New("this host has no unified control groups")
	}
	for {
		var out bytes.Buffer
		cmd := c.client(ctx, "inspect", "--type=container", "--format={{.State.Pid}}", c.Name)
		cmd.Stdout = &out
		err := cmd.Run()
		if pid, _ := strconv.Atoi(strings.TrimSpace(out.String())); err == nil && pid > 0 {
			return os.WriteFile(path.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		}
		if errors.Is(unix.Kill(main, 0), unix.ESRCH) {
			return ErrEnded
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// ErrEnded: docker's client ended before there was a container.
var ErrEnded = errors.New("docker ended before the engine ran")

// pause is between two looks for the container, and patience how long the first program in one
// waits to be moved.
const (
	pause    = 20 * time.Millisecond
	patience = time.Minute
)

// controlGroup is the directory of the caller's control group. PID 1 runs the steps of a unit with
// Delegate= one level below it.
func controlGroup() string {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	at, found := unified(string(own))
	if !found {
		return ""
	}
	return strings.TrimSuffix(path.Join("/sys/fs/cgroup", at), "/.control")
}

// unified is the path in the unified hierarchy of a process's file cgroup (cgroups(7)).
func unified(file string) (string, bool) {
	for line := range strings.Lines(file) {
		if at, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			return at, true
		}
	}
	return "", false
}

// Enter waits in a container until this process is in the control group of the unit, and becomes
// the engine. It returns an error only, with the exit status for it.
func Enter(ctx context.Context, unit string, sealed bool, argv []string) (int, error) {
	for until := time.Now().Add(patience); ; time.Sleep(pause / 4) {
		if err := ctx.Err(); err != nil {
			return Failed, err
		}
		at, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return Failed, err
		}
		if group, found := unified(string(at)); found && path.Base(group) == unit {
			break
		}
		if time.Now().After(until) {
			return Failed, fmt.Errorf("not moved into the control group of %s within %s", unit, patience)
		}
	}
	unix.Umask(0o077)
	if sealed {
		// Before Linux 6.3 there is no such thing.
		_ = unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
	}
	return NoProgram, fmt.Errorf("execute %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}
