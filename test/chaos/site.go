package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// witnessProgram is where the witness is in the machine.
const witnessProgram = "/usr/local/bin/witness"

// site is the machine.
type site struct {
	*host.Host
	parts host.Parts
	newer string // the package of a newer version, "" where the run needs none
	pace  pace

	// stateMount makes the file system of the manager's state.
	stateMount string

	lines   int       // of the manager's log so far
	counted time.Time // until when, by the clock of the machine
}

// boot boots a machine with the package and the twenty pools. Its state and runtime directories are
// small file systems, so that they can be full. What has to be built is in dir.
func boot(ctx context.Context, cfg machine.Config, dir string, upgrades bool) (*site, error) {
	parts, err := host.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &site{parts: parts, stateMount: stateInMemory}
	if cfg.Backend == machine.VM {
		s.stateMount = stateOnDisk
	}
	if upgrades {
		if s.newer, err = host.BuildNewer(ctx, dir); err != nil {
			return nil, err
		}
	}
	program := filepath.Join(dir, "witness")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./witness")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the witness: %w\n%s", err, out)
	}
	cfg.Files = []machine.File{{Guest: witnessProgram, Host: program, Mode: 0o755}}
	if cfg.Backend == machine.VM {
		disk := filepath.Join(dir, "state.img")
		makes := exec.CommandContext(ctx, "sh", "-c",
			`truncate -s 8M "$1" && PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -m 0 "$1"`, "sh", disk)
		if out, err := makes.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make the disk of the state: %w\n%s", err, out)
		}
		cfg.Files = append(cfg.Files, machine.File{Guest: stateImage, Host: disk, Mode: 0o600})
	}
	if s.Host, err = host.Boot(ctx, cfg, parts); err != nil {
		return nil, err
	}
	if s.pace, err = s.measure(ctx, program); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.furnish(ctx); err != nil {
		return nil, errors.Join(err, errors.New(s.Story(ctx, time.Time{})), s.Close())
	}
	return s, nil
}

// The manager's state is on a small file system. Only a kernel of its own has a disk for it, which
// can be slow.
const (
	stateInMemory = "mount -t tmpfs -o size=4m,mode=700 chaos-state " + stateDir
	stateOnDisk   = "mount -o loop " + stateImage + " " + stateDir + "; chmod 700 " + stateDir + "; rmdir " + stateDir +
		"/lost+found"
	stateImage = "/root/state.img"
)

// furnish makes the file systems, the GPUs and the pools.
func (s *site) furnish(ctx context.Context) error {
	units := "pool-managerd.service pool-managerd.socket pool-gpu.service pool-gpu.socket"
	_, err := s.Shell(ctx, `systemctl stop `+units+`
		`+s.stateMount+`
		mount -t tmpfs -o size=8m,mode=755 chaos-run `+runDir+`
		systemctl start pool-gpu.socket pool-managerd.socket pool-managerd.service
		cp /srv/models/tiny.gguf /srv/models/b.gguf; chmod 644 /srv/models/b.gguf`)
	if err != nil {
		return err
	}
	if err := s.LoadGPUs(ctx, "--gpus 2 --vram 8589934592"); err != nil {
		return err
	}
	for _, id := range everyone() {
		if err := s.WritePool(ctx, id, poolFile(id, s.pace)); err != nil {
			return err
		}
	}
	if err := s.Reload(ctx).Check(); err != nil {
		return err
	}
	s.counted, err = s.clock(ctx)
	if err != nil {
		return err
	}
	if text := s.recover(ctx, 10*time.Minute); text != "" {
		return errors.New(text)
	}
	return nil
}

// recover waits until all pools serve that can, and returns what did not come back in time.
func (s *site) recover(ctx context.Context, within time.Duration) string {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %s", within))
	defer cancel()
	err := host.Eventually(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		list, err := s.Pools(ctx)
		if err != nil {
			return err
		}
		if text := recovered(list); text != "" {
			return errors.New(text)
		}
		d, err := s.Devices(ctx)
		if err == nil && (d.Stale != nil || len(d.Devices) != 2) {
			err = fmt.Errorf("GPUs: %+v", d)
		}
		return err
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

// clock is the time in the machine.
func (s *site) clock(ctx context.Context) (time.Time, error) {
	out, err := s.Run(ctx, "date", "+%s")
	if err != nil {
		return time.Time{}, err
	}
	sec, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.Unix(sec, 0), err
}

// facts fills in what a settled round shows beside the last look: from PID 1, the API and /proc.
func (s *site) facts(ctx context.Context, r *truth.Settled) error {
	units, err := s.Units(ctx, "pool-engine@*")
	if err != nil {
		return err
	}
	for name, u := range units {
		if u.ActiveState == "active" {
			r.Units = append(r.Units, truth.Unit{Name: name, PID: u.MainPID, Invocation: u.InvocationID,
				Restarts: u.NRestarts})
		}
	}
	for _, p := range everyone() {
		var list struct{ Leases []truth.Held }
		a, err := s.Get(ctx, "/v1/pools/"+p+"/leases")
		if err == nil {
			err = json.Unmarshal(a.Body, &list)
		}
		if err != nil {
			return fmt.Errorf("the leases of %s: %w", p, err)
		}
		r.Held = append(r.Held, list.Leases...)
	}
	if r.Manager, err = s.manager(ctx); err != nil {
		return err
	}
	r.Journal, err = s.journal(ctx)
	return err
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

// manager is what its process uses.
func (s *site) manager(ctx context.Context) (m truth.Manager, err error) {
	out, err := s.Shell(ctx, `p=$(systemctl show -p MainPID --value pool-managerd.service)
		echo $p $(awk '/^VmRSS/ {print $2}' /proc/$p/status) $(ls /proc/$p/fd | wc -l)`)
	if err != nil {
		return m, err
	}
	if _, err := fmt.Sscan(out, &m.PID, &m.RSSKiB, &m.Descriptors); err != nil {
		return m, fmt.Errorf("%q: %w", out, err)
	}
	a, err := s.Get(ctx, "/metrics")
	if err != nil {
		return m, err
	}
	found := goroutines.FindSubmatch(a.Body)
	if found == nil {
		return m, errors.New("no go_goroutines in the metrics")
	}
	m.Goroutines, err = strconv.Atoi(string(found[1]))
	return m, err
}

// journal counts the lines of the manager and its helper since the pools were made.
func (s *site) journal(ctx context.Context) (int, error) {
	until, err := s.clock(ctx)
	if err != nil {
		return 0, err
	}
	out, err := s.Shell(ctx, fmt.Sprintf(`journalctl --quiet --no-pager -o cat -u pool-managerd.service -u pool-gpu.service `+
		`--since=@%d --until=@%d | wc -l`, s.counted.Unix(), until.Unix()))
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(out))
	s.counted, s.lines = until, s.lines+n
	return s.lines, err
}
