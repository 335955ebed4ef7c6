package machine

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The launcher is two shell scripts, the first of which ends as the second in namespaces of its
// own.
var (
	//go:embed container-enter.sh
	enterScript string
	//go:embed container-launch.sh
	launchScript string
)

// container is a machine made of systemd-nspawn. Everything that it is on the host dies with the
// launcher, whose child is the first process of a PID namespace; the rest is the directory dir and
// the machine's cgroup.
type container struct {
	dir      *runDir
	notify   *notifySocket
	launcher *os.Process   // nil until it is started
	ended    chan struct{} // closed when the launcher is gone
	exit     error         // how it ended; read after ended

	mu      sync.Mutex
	counter int // commands so far, to name their cgroups
}

// Signals that systemd as PID 1 takes as orders (systemd(1), "Signals"): SIGRTMIN+4 and +5,
// SIGRTMIN being 34.
const (
	signalPowerOff = syscall.Signal(34 + 4)
	signalReboot   = syscall.Signal(34 + 5)
)

// bootContainer boots a container from the root file system and waits for its PID 1 to be ready.
func bootContainer(ctx context.Context, cfg Config, root string) (backend, error) {
	if err := needTools("systemd-nspawn", "nsenter", "unshare"); err != nil {
		return nil, err
	}
	dir, err := newRunDir(ctx)
	if err != nil {
		return nil, err
	}
	c := &container{dir: dir, ended: make(chan struct{})}
	if err := c.boot(ctx, cfg, root); err != nil {
		err = fmt.Errorf("%w\n%s", err, lastLines(c.console(), 20))
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, c.close(stop))
	}
	return c, nil
}

func (c *container) boot(ctx context.Context, cfg Config, root string) error {
	if len(cfg.Files) > 0 {
		if err := writeTarFile(c.dir.file("files.tar"), cfg.Files); err != nil {
			return err
		}
	}
	var err error
	if c.notify, err = listenNotify(c.dir.file("notify")); err != nil {
		return err
	}
	if err := c.launch(root, cfg); err != nil {
		return err
	}
	return c.notify.waitReady(ctx, 1, c.ended)
}

// launch starts the launcher and a goroutine that waits for its end.
func (c *container) launch(root string, cfg Config) error {
	mount, err := cgroup2Mount()
	if err != nil {
		return err
	}
	var cgroup string
	var scope []string
	if bootedWithSystemd() {
		// The host's PID 1 owns the hierarchy: ask it for a delegated group (cgroups'
		// single-writer rule).
		scope = []string{"systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes",
			"--unit=" + nameOnHost(c.dir.id) + ".scope", "--"}
	} else if cgroup, err = c.dir.makeCgroup(mount); err != nil {
		return err
	}
	args := append(scope, "sh", "-c", enterScript, "enter", c.dir.path, cgroup, mount,
		"sh", "-c", launchScript, "launch", c.dir.path, root, nspawnOptions(cfg))
	console, err := os.Create(c.dir.file("console"))
	if err != nil {
		return err
	}
	defer console.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = console, console
	wait, err := startTied(cmd)
	if err != nil {
		return err
	}
	c.launcher = cmd.Process
	go func() {
		c.exit = <-wait
		close(c.ended)
	}()
	return nil
}

// nspawnOptions are the options of systemd-nspawn for binds and calls, which have no space.
func nspawnOptions(cfg Config) string {
	var options []string
	for _, b := range cfg.Binds {
		options = append(options, "--bind-ro="+b.Host+":"+b.Guest)
	}
	for _, call := range cfg.Calls {
		options = append(options, "--system-call-filter="+call)
	}
	return strings.Join(options, " ")
}

// bootedWithSystemd reports whether the host's PID 1 is systemd (sd_booted(3)).
func bootedWithSystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// writeTarFile writes the files as a tar archive to a new file.
func writeTarFile(path string, files []File) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(writeTar(f, files), f.Close())
}

func (c *container) gone() <-chan struct{} { return c.ended }

func (c *container) console() string {
	text, err := os.ReadFile(c.dir.file("console"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// leader is the host's number of the container's PID 1.
func (c *container) leader() (int, error) {
	select {
	case <-c.ended:
		return 0, fmt.Errorf("the machine has ended (%v)", c.exit)
	default:
	}
	cgroup, err := os.ReadFile(c.dir.file(cgroupFile))
	if err != nil {
		return 0, err
	}
	// systemd keeps itself in init.scope, here with the group of its container before it.
	lists, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(cgroup)),
		"boot-*/payload/init.scope/cgroup.procs"))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		if err != nil {
			continue // left from an earlier boot
		}
		for _, field := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(field); err == nil && firstInNamespace(pid) {
				return pid, nil
			}
		}
	}
	return 0, errors.New("the machine has no PID 1 at this moment")
}

// firstInNamespace reports whether the process is PID 1 of its own PID namespace (NSpid in proc(5),
// the innermost last).
func firstInNamespace(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if numbers, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(numbers)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

func (c *container) reboot(ctx context.Context) error {
	pid, err := c.leader()
	if err != nil {
		return err
	}
	boots := c.notify.boots()
	if err := syscall.Kill(pid, signalReboot); err != nil {
		return err
	}
	return c.notify.waitReady(ctx, boots+1, c.ended)
}

func (c *container) powerOff(ctx context.Context) error {
	pid, err := c.leader()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, signalPowerOff); err != nil {
		return err
	}
	select {
	case <-c.ended:
		return c.exit
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *container) close(ctx context.Context) error {
	if c.launcher != nil {
		// Its death is that of systemd-nspawn, and so of the container; the cgroup contains
		// whatever else there is.
		_ = c.launcher.Kill() // it may be gone
		select {
		case <-c.ended:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the container: %w", ctx.Err())
		}
	}
	if c.notify != nil {
		c.notify.close()
	}
	return c.dir.remove(ctx)
}
