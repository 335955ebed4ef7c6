//go:build machine

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestDownloadSurvivesKills: the manager, the program that downloads and PID 1 end or start again
// at ten random moments of a download, and the pool goes to ready with the bytes that the hub has.
func TestDownloadSurvivesKills(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.shell(strings.Replace(serveHub, "slow=500000", "slow=200000", 1))
			defer h.shell(endHub)
			downloadKilled(h)
			switch release {
			case machine.Trixie:
				t.Run("by_hand", func(t *testing.T) { downloadByHand(h.in(t)) })
			case machine.Forky:
				t.Run("reboots", func(t *testing.T) { downloadOverReboots(h.in(t)) })
			}
		})
	}
}

func downloadKilled(h *site) {
	h.write(host.ConfigFile, fetching("hub.test", "cdn.test"))
	h.pool("b", from("big.gguf"))
	h.reload()
	h.wait("b", progressing)
	hit := h.kills(700 * time.Millisecond)
	h.t.Logf("%d of ten kills were before the download was whole", hit)
	h.wait("b", isReady)
	sums := strings.Fields(h.shell("cd /var/cache/pool-managerd/models/models--acme--tiny/snapshots; " +
		"sha256sum /srv/hub/big.gguf */big.gguf"))
	if len(sums) != 4 || sums[0] != sums[2] {
		h.t.Errorf("it is not what the hub has: %v", sums)
	}
}

// kills ends the manager, the program that downloads, and starts PID 1 again, ten times, each at a
// random moment, and returns how many of these were while a download ran.
func (h *site) kills(within time.Duration) (hit int) {
	h.t.Helper()
	kills := []string{"manager", "manager", "manager", "manager", "download", "download", "download", "download",
		"PID 1", "PID 1"}
	rand.Shuffle(len(kills), func(i, j int) { kills[i], kills[j] = kills[j], kills[i] })
	for i, what := range kills {
		after := rand.N(within)
		unit := h.download()
		h.t.Logf("%d: %s, %s after %s ran", i, what, after, unit)
		if unit != "" {
			hit++
		}
		time.Sleep(after)
		switch what {
		case "manager":
			h.must("systemctl", "kill", "-s", "KILL", host.ManagerUnit)
		case "PID 1":
			h.must("systemctl", "daemon-reexec")
		default: // it may be whole, or wait for its next attempt
			h.shell("systemctl kill -s KILL '" + unit + "' || true")
		}
	}
	return hit
}

// bigFile is the size of the hub's large file, and ofPiece of what pool-fetch counts by, in bytes.
const (
	bigFile = 24 << 20
	ofPiece = 1 << 20
)

// downloadOverReboots: the host reboots in the middle of a download, in order and at once, and of
// the hub nothing is asked again that was on the disk, though its large files are at another
// address then. After each boot there is no hub for a while, so that what is there can be counted.
func downloadOverReboots(h *site) {
	h.must("rm", host.PoolFile("b"))
	h.reload()
	h.waitGone("b")
	h.shell("systemctl stop hub; rm -rf " + imageCache + "/*" + hubAt("8082"))
	h.pool("b", from("big.gguf"))
	h.reload()
	have := 0
	for _, how := range []struct {
		name   string
		reboot func(context.Context) error
		then   string // port of the hub's large files after it
	}{{"in order", h.M.Reboot, "8083"}, {"at once", h.reset, "8084"}} {
		h.eventually(func(ctx context.Context) error {
			if now := h.pieces(ctx); now < have+3 {
				return fmt.Errorf("%d pieces are on the disk, there were %d", now, have)
			}
			return nil
		})
		ctx, cancel := h.within()
		defer cancel()
		if err := how.reboot(ctx); err != nil {
			h.t.Fatal(err)
		}
		now := h.pieces(ctx)
		if now < have+3 || now*ofPiece >= bigFile {
			h.t.Fatalf("after the boot %d pieces are on the disk, there were %d before the download went on", now, have)
		}
		have = now
		h.t.Logf("rebooted %s with %d of %d MiB", how.name, have, bigFile/ofPiece)
		h.shell(hubAt(how.then))
	}
	h.wait("b", isReady)
	asked, want := h.askedFor(), bigFile-have*ofPiece
	h.t.Logf("after the last boot the hub was asked for %d bytes", asked)
	if asked != want {
		h.t.Errorf("after the last boot the hub was asked for %d bytes; %d were not on the disk", asked, want)
	}
	h.shell("cmp " + imageCache + "/models--acme--tiny/snapshots/*/big.gguf /srv/hub/big.gguf")
}

// hubAt is the hub with its large files at that port, slowly, which logs what it is asked for.
func hubAt(port string) string {
	return strings.NewReplacer("slow=500000", "slow=200000", "cdn.test:8081", "cdn.test:"+port,
		"/hub -dir", "/hub -log -dir").Replace(serveHub)
}

// reset reboots the machine without asking any process to end, and waits until it is up again.
func (s *site) reset(ctx context.Context) error {
	const boot = "/proc/sys/kernel/random/boot_id"
	before, err := s.Host.Run(ctx, "cat", boot)
	if err != nil {
		return err
	}
	s.M.Run(ctx, "systemctl", "reboot", "--force", "--force") // it ends with everything else
	return host.Eventually(ctx, func(ctx context.Context) error {
		now, err := s.Host.Run(ctx, "cat", boot)
		if err == nil && now == before {
			err = errors.New("the machine did not reboot")
		}
		if err == nil {
			_, err = s.Host.Run(ctx, "systemctl", "is-system-running", "--wait")
		}
		return err
	})
}

// pieces counts the parts of the hub's large file that are on the disk.
func (s *site) pieces(ctx context.Context) int {
	s.t.Helper()
	out, err := s.Host.Shell(ctx, "tail -n 1 "+imageCache+"/models--acme--tiny/blobs/*.ranges || true")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(out, "1")
}

// askedFor sums the ranges that the host of large files was asked for since the last boot.
func (s *site) askedFor() (bytes int) {
	s.t.Helper()
	for line := range strings.Lines(s.shell("journalctl --boot --unit=hub --output=cat --grep='^GET cdn.test'")) {
		var from, to int
		_, part, _ := strings.Cut(line, " bytes=")
		if _, err := fmt.Sscanf(part, "%d-%d", &from, &to); err != nil {
			s.t.Errorf("asked for without a range: %s", line)
		}
		bytes += to + 1 - from
	}
	return bytes
}

func downloadByHand(h *site) {
	const model = "hf:acme/tiny/tiny.gguf"
	out := h.must("poolctl", "models", "pull", model)
	if !strings.Contains(out, model+" is at /var/cache/pool-managerd/models/") {
		h.t.Errorf("pull: %s", out)
	}
	h.must("poolctl", "models", "export", model, "/srv/hub/tiny.tar")
	h.shell("cp " + host.ConfigFile + " /srv/hub/other.toml; " +
		"echo 'provisioning.cache_dir = \"/srv/hub/cache\"' >>/srv/hub/other.toml; " +
		"poolctl models import - --config /srv/hub/other.toml </srv/hub/tiny.tar; " +
		"cmp /srv/hub/cache/*/snapshots/*/tiny.gguf /srv/hub/tiny.gguf")
	h.must("systemctl", "stop", "hub")
	h.shell("rm -rf /var/cache/pool-managerd/models/*; poolctl models import /srv/hub/tiny.tar")
	h.pool("a", from("tiny.gguf"))
	h.reload()
	h.wait("a", isReady)
}

// download returns the unit of the download once it runs; of one that is whole, none.
func (s *site) download() (unit string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		units, err := s.Host.Run(ctx, "systemctl", "list-units", "--plain", "--no-legend", "--state=activating",
			"pool-fetch@*")
		if err != nil {
			return err
		}
		if unit, _, _ = strings.Cut(strings.TrimSpace(units), " "); unit != "" {
			return nil
		}
		p, err := s.Host.Pool(ctx, "b")
		if err != nil || !p.Ready {
			return errors.Join(err, fmt.Errorf("no download runs; the pool is %s", p.State))
		}
		return nil
	})
	return unit
}
