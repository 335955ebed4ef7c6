// Package host is a test machine in which the pool-managerd package is installed, as an
// administrator or a program beside it sees it: files below /etc, systemctl, and the HTTP API. The
// scenarios, the benchmarks and the demo are written in its words.
//
// It reads the API with shapes of its own, written from the documented contract: a name that
// changes in the product by mistake is noticed. It must not import the product's packages.
package host

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// Where things are in an installed machine.
const (
	ConfigFile   = "/etc/pool-managerd/config.toml"
	PoolsDir     = "/etc/pool-managerd/pools.d"
	HandoffDir   = "/run/pool-managerd/engines"
	Socket       = "/run/pool-managerd/api.sock"
	TCPAddress   = "127.0.0.1:9200"
	ManagerUnit  = "pool-managerd.service"
	StubEngine   = "/usr/local/bin/stubengine"       // where Stub puts the stand-in engine
	TinyModel    = "/srv/models/tiny.gguf"           // where Models puts the generated model
	Orchestrator = "/usr/local/bin/fakeorchestrator" // the imitation of an orchestrator's registry of nodes
	Hub          = "/usr/local/bin/hub"              // the imitation of a hub of models
	debInside    = "/root/pool-managerd.deb"         // where Install copies the package
	Config       = "# CPU inference is refused unless the host says that it is meant.\nrequire_gpu = false\n" +
		"# Tests count what engines do: TestPerformance measures.\ndefaults.hints.benchmark = false\n# Local " +
		"callers need no token in these tests.\nauth_optional = true\n"
)

// Host is a machine with the package installed. Its methods may be called from several goroutines.
type Host struct {
	M    *machine.Machine
	unix *http.Client
	tcp  *http.Client
}

// Install installs the package file at deb (a path on this machine) with dpkg, and waits until the
// manager answers.
func Install(ctx context.Context, m *machine.Machine, deb string) (*Host, error) {
	h := New(m)
	if err := h.Upgrade(ctx, deb); err != nil {
		return nil, err
	}
	return h, h.Answering(ctx)
}

// New returns the host of a machine in which the package is installed already, or will be.
func New(m *machine.Machine) *Host {
	h := &Host{M: m}
	h.unix = h.client(func(ctx context.Context) (net.Conn, error) { return m.DialContext(ctx, "unix", Socket) })
	h.tcp = h.client(func(ctx context.Context) (net.Conn, error) { return m.DialContext(ctx, "tcp", TCPAddress) })
	return h
}

// client makes an HTTP client that opens a new connection for each request: a test is never saved
// by one that was open before.
func (h *Host) client(dial func(context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
}

// Upgrade installs a package file with dpkg, over the installed version.
func (h *Host) Upgrade(ctx context.Context, deb string) error {
	if err := h.M.CopyIn(ctx, deb, debInside); err != nil {
		return err
	}
	return h.M.Run(ctx, "dpkg", "--install", debInside).Check()
}

// Run runs a program in the machine and returns its standard output, or an error with everything it
// wrote.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	r := h.M.Run(ctx, args...)
	return r.Stdout, r.Check()
}

// Shell runs a script and returns its standard output.
func (h *Host) Shell(ctx context.Context, script string) (string, error) {
	r := h.M.Shell(ctx, script)
	return r.Stdout, r.Check()
}

// WriteFile writes a file with mode 0644 and the directories above it.
func (h *Host) WriteFile(ctx context.Context, name, content string) error {
	return h.M.WriteFile(ctx, name, []byte(content), 0o644)
}

// WritePool writes a pool's file; Reload makes it count.
func (h *Host) WritePool(ctx context.Context, id, toml string) error {
	return h.WriteFile(ctx, PoolFile(id), toml)
}

// PoolFile is the path of a pool's file.
func PoolFile(id string) string { return path.Join(PoolsDir, id+".toml") }

// Reload asks for the configuration to be read again, as an administrator does.
func (h *Host) Reload(ctx context.Context) machine.Result {
	return h.M.Run(ctx, "systemctl", "reload", ManagerUnit)
}

// Answering waits until GET /health is answered.
func (h *Host) Answering(ctx context.Context) error {
	return Eventually(ctx, func(ctx context.Context) error {
		a, err := h.Get(ctx, "/health")
		if err != nil {
			return err
		}
		if a.Status != http.StatusOK {
			return fmt.Errorf("GET /health: %d %s", a.Status, a.Body)
		}
		return nil
	})
}

// pause is how often a condition is looked at. It is a look at the API or PID 1, never a wait for
// its own sake.
const pause = 50 * time.Millisecond

// Eventually calls look until it returns nil, and returns its last error when ctx ends before.
func Eventually(ctx context.Context, look func(context.Context) error) error {
	var last error
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; at last: %w", context.Cause(ctx), last)
		case <-time.After(pause):
		}
	}
}

// Reset brings an installed machine back to the state after installation, after anything a test did
// to it: no pools, the given config.toml, no engines, a fresh manager.
func (h *Host) Reset(ctx context.Context, config string) error {
	_, err := h.Shell(ctx, `
		rm -rf /etc/systemd/system/pool-managerd.service.d /run/systemd/system/pool-managerd.service.d
		rm -rf `+PoolsDir+`; mkdir -p `+PoolsDir+`
		systemctl daemon-reload
		systemctl stop pool-managerd.service 2>/dev/null || true
		rm -f /var/lib/pool-managerd/configuration.json # what is gone is meant to be gone
		units=$(systemctl list-units --all --plain --no-legend 'pool-engine@*' 'pool-probe-*' 'test-*' | awk '{print $1}')
		[ -z "$units" ] || systemctl stop $units || true`+unloadGPUs+`
		systemctl reset-failed`)
	if err != nil {
		return err
	}
	if err := h.WriteFile(ctx, ConfigFile, config); err != nil {
		return err
	}
	if _, err := h.Run(ctx, "systemctl", "start", "pool-managerd.socket", ManagerUnit); err != nil {
		return err
	}
	if err := h.Answering(ctx); err != nil {
		return err
	}
	list, err := h.Pools(ctx)
	if err == nil && len(list.Pools)+len(list.Problems) > 0 {
		err = fmt.Errorf("after a reset there are pools: %+v", list)
	}
	return err
}

// Story is what helps to debug a failed scenario: the manager's and the engines'
// log, and the units.
func (h *Host) Story(ctx context.Context, since time.Time) string {
	from := "--boot"
	if !since.IsZero() {
		from = fmt.Sprintf("--since=@%d", since.Unix())
	}
	var b strings.Builder
	for _, args := range [][]string{
		{"systemctl", "list-units", "--all", "--plain", "--no-legend", "pool-*"},
		{"systemctl", "status", "--no-pager", "--lines=0", ManagerUnit, "pool-engine@*"},
		{"journalctl", "--no-pager", "--no-hostname", "--output=short-precise", from, "--lines=150"},
		{"curl", "-sS", "--max-time", "3", "--unix-socket", Socket, "http://localhost/v1/pools"},
	} {
		r := h.M.Run(ctx, args...)
		fmt.Fprintf(&b, "$ %s\n%s%s\n", strings.Join(args, " "), r.Stdout, r.Stderr)
		if r.Err != nil {
			fmt.Fprintln(&b, r.Err)
		}
	}
	return b.String()
}

// Close ends the machine.
func (h *Host) Close() error {
	return h.M.Close()
}
