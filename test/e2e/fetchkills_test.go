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
			if release == machine.Trixie {
				t.Run("by_hand", func(t *testing.T) { downloadByHand(h.in(t)) })
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
