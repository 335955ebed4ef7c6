//go:build machine

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// patience is the longest wait for one condition.
const patience = 4 * time.Minute

// Where the programs of these names are in the machine.
const (
	crashwatch = "/usr/local/bin/crashwatch"
	bareprobe  = "/usr/local/bin/bareprobe"
	xidwatch   = "/usr/local/bin/xidwatch"
	backwatch  = "/usr/local/bin/backwatch"
	leaseload  = "/usr/local/bin/leaseload"
	useload    = "/usr/local/bin/useload"
	unitload   = "/usr/local/bin/unitload"
	askload    = "/usr/local/bin/askload"

	hostileload = "/usr/local/bin/hostileload"
)

// shared is the state that the benchmarks of one run share: the machine, and the figures for the
// table.
var shared *bed

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pool-managerd-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared = &bed{dir: dir}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "the machine left something behind:", err)
		return 1
	}
	shared.print()
	return code
}

// bed is one machine with the package installed, for all benchmarks.
type bed struct {
	dir  string
	boot sync.Once
	host *host.Host
	err  error // of the boot

	mu   sync.Mutex
	rows [][4]string
}

// on returns the machine in the state after installation.
func on(b *testing.B) site {
	b.Helper()
	shared.boot.Do(func() { shared.host, shared.err = shared.start(b.Context()) })
	if shared.err != nil {
		b.Fatal(shared.err)
	}
	s := site{b, shared.host}
	s.empty()
	s.check(s.Reset(b.Context(), host.Config))
	return s
}

// empty removes all pools, and returns when the manager has stopped their engines. A reset alone
// would stop a hundred of them by one command, which then ends before they do.
func (s site) empty() {
	s.b.Helper()
	s.must(fmt.Sprintf(`rm -f %s/*.toml; ! systemctl -q is-active pool-managerd || systemctl reload pool-managerd`,
		host.PoolsDir))
	s.until(func(ctx context.Context) error {
		list, err := s.Pools(ctx)
		if err == nil && len(list.Pools) > 0 {
			err = fmt.Errorf("%d pools are left", len(list.Pools))
		}
		return err
	})
}

func (d *bed) start(ctx context.Context) (*host.Host, error) {
	parts, err := host.Build(ctx, d.dir)
	if err != nil {
		return nil, err
	}
	cfg := machine.Config{Release: machine.Forky}
	for _, inside := range []string{crashwatch, bareprobe, xidwatch, backwatch, leaseload, useload, unitload, askload,
		hostileload} {
		name := filepath.Base(inside)
		built := filepath.Join(d.dir, name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", built, "./"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		cfg.Files = append(cfg.Files, machine.File{Guest: inside, Host: built, Mode: 0o755})
	}
	return host.Boot(ctx, cfg, parts)
}

func (d *bed) close() error {
	if d.host == nil {
		return nil
	}
	return d.host.Close()
}

// row adds a figure to the table: what was measured, how much, beside which peer or condition,
// and the target.
func (d *bed) row(what, figure, beside, target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = append(d.rows, [4]string{what, figure, beside, target})
}

func (d *bed) print() {
	if len(d.rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "\nFigure\tMeasured\tBeside\tTarget\n")
	for _, r := range d.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r[0], r[1], r[2], r[3])
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// site is the machine in one benchmark's hands.
type site struct {
	b *testing.B
	*host.Host
}

func (s site) check(err error) {
	s.b.Helper()
	if err != nil {
		s.b.Fatal(err)
	}
}

// must runs a script in the machine and returns what it printed.
func (s site) must(script string) string {
	s.b.Helper()
	ctx, cancel := context.WithTimeout(s.b.Context(), patience)
	defer cancel()
	out, err := s.Shell(ctx, script)
	s.check(err)
	return out
}

// until waits until look returns nil.
func (s site) until(look func(ctx context.Context) error) {
	s.b.Helper()
	ctx, cancel := context.WithTimeoutCause(s.b.Context(), patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	if err := host.Eventually(ctx, look); err != nil {
		s.b.Fatalf("%v\n%s", err, s.Story(s.b.Context(), time.Time{}))
	}
}

// stubs has exactly n pools, p0 to p(n-1), each with one stand-in engine that restarts after a
// second and is probed each five seconds; it returns when all are ready.
func (s site) stubs(n int) {
	s.b.Helper()
	s.must(fmt.Sprintf(`cd %s; for i in $(seq 0 %d); do cat >p$i.toml <<'END'
engine = "command"
devices = []
args = ["--port", "{port}"]
[provisioning]
binary = %q
[health]
interval = "5s"
[restart]
initial = "1s"
max = "1s"
jitter = 0.0
breaker_failures = 100
END
done
systemctl reload pool-managerd`, host.PoolsDir, n-1, host.StubEngine))
	s.ready(n)
}

// ready waits until so many pools are, of as many.
func (s site) ready(n int) {
	s.b.Helper()
	s.until(func(ctx context.Context) error {
		list, err := s.Pools(ctx)
		ready := 0
		for _, p := range list.Pools {
			if p.Ready {
				ready++
			}
		}
		if err == nil && ready != n {
			err = fmt.Errorf("%d of %d pools are ready", ready, n)
		}
		return err
	})
}

// median of at least one value.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
