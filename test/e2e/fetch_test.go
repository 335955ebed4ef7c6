//go:build machine

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// serveHub runs the imitation of a hub, hub.test, whose large files are at cdn.test, with a tiny
// model and one of 24 MiB that takes some seconds.
const serveHub = `
	grep -q hub.test /etc/hosts || echo '127.0.0.1 hub.test cdn.test' >>/etc/hosts
	mkdir -p /srv/hub; cp /srv/models/tiny.gguf /srv/hub/tiny.gguf
	cp /srv/models/tiny.gguf /srv/hub/big.gguf; truncate -s 24M /srv/hub/big.gguf
	systemd-run --quiet --unit=hub --service-type=exec /usr/local/bin/hub -dir /srv/hub -repo acme/tiny -listen 127.0.0.1:8080 \
		-endpoint http://hub.test:8080 -cdn http://cdn.test:8081 -lfs 100000 -fault cdn:slow=500000
	until curl --silent --output /dev/null http://hub.test:8080/; do sleep 0.1; done`

const endHub = `
	systemctl stop hub 'pool-fetch@*' || true; systemctl reset-failed || true
	sed -i /hub.test/d /etc/hosts; rm -rf /srv/hub /var/cache/pool-managerd/models`

// fetching is the host's configuration with downloads from those hosts.
func fetching(hosts ...string) string {
	list := strings.ReplaceAll(fmt.Sprintf("%q", hosts), `" "`, `", "`)
	return host.Config + "policy.egress = \"fetch\"\npolicy.allowed_hosts = " + list +
		"\nprovisioning.hf_endpoint = \"http://hub.test:8080\"\n"
}

// from is a pool of a model of the hub.
func from(file string) poolFile {
	p := stub().quick()
	p.keys[1] = `model = "hf:acme/tiny/` + file + `"`
	return p
}

// TestFetch: a pool file that names a model of a hub goes to ready, over the death of the manager
// and of the download; where the policy forbids it, the pool names the line to change.
func TestFetch(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.shell(serveHub)
			defer h.shell(endHub)
			t.Run("nothing_is_downloaded_by_default", func(t *testing.T) {
				h := h.in(t)
				h.pool("a", from("tiny.gguf"))
				h.reload()
				p := h.wait("a", failsWith("POLICY_DENIED"))
				if !strings.Contains(p.Hint, `egress = "fetch"`) {
					t.Errorf("hint %q", p.Hint)
				}
			})
			t.Run("a_host_that_is_not_allowed", func(t *testing.T) {
				h := h.in(t)
				h.write(host.ConfigFile, fetching("hub.test"))
				h.reload()
				p := h.wait("a", condition{"POLICY_DENIED about cdn.test", func(p host.Pool) bool {
					return p.Code() == "POLICY_DENIED" && strings.Contains(p.LastError, "cdn.test")
				}})
				if !strings.Contains(p.Hint, `allowed_hosts = ["hub.test", "cdn.test"]`) {
					t.Errorf("hint %q", p.Hint)
				}
			})
			var engine int
			t.Run("to_ready", func(t *testing.T) {
				h := h.in(t)
				h.write(host.ConfigFile, fetching("hub.test", "cdn.test"))
				h.reload()
				engine = h.wait("a", isReady).Replicas[0].PID
				owner := h.shell("find /var/cache/pool-managerd/models/models--acme--tiny ! -user pool-fetch")
				if owner != "" {
					t.Errorf("these are not pool-fetch's: %s", owner)
				}
				out := h.shell("systemctl list-units --all --plain --no-legend 'pool-fetch@*' 'pool-resolve@*'")
				if out != "" {
					t.Errorf("units are left: %s", out)
				}
			})
			t.Run("over_the_death_of_all", func(t *testing.T) {
				h := h.in(t)
				h.pool("b", from("big.gguf"))
				h.reload()
				h.wait("b", progressing)
				units := h.shell("systemctl list-units --plain --no-legend --state=activating 'pool-fetch@*'")
				unit, _, _ := strings.Cut(units, " ")
				before := h.must("systemctl", "show", "-P", "MainPID", unit)
				h.must("systemctl", "kill", "-s", "KILL", host.ManagerUnit)
				h.wait("b", progressing)
				if now := h.must("systemctl", "show", "-P", "MainPID", unit); now != before {
					t.Errorf("the download is process %s, it was %s", now, before)
				}
				h.must("systemctl", "kill", "-s", "KILL", unit)
				h.wait("b", isReady)
				if now := h.wait("a", isReady).Replicas[0].PID; now != engine {
					t.Errorf("the engine that served is process %d, it was %d", now, engine)
				}
				sums := strings.Fields(h.shell("cd /var/cache/pool-managerd/models/models--acme--tiny/snapshots; " +
					"sha256sum /srv/hub/big.gguf */big.gguf"))
				if sums[0] != sums[2] {
					t.Errorf("it is not what the hub has: %v", sums)
				}
			})
			t.Run("then_without_the_hub", func(t *testing.T) {
				h := h.in(t)
				h.must("systemctl", "stop", "hub")
				h.must("poolctl", "restart", "b", "--wait")
				h.wait("b", isReady)
			})
		})
	}
}

// progressing is a pool whose model is on its way.
var progressing = condition{"staging, with the percentage in its reason", func(p host.Pool) bool {
	return p.State == "staging" && len(p.Replicas) > 0 && strings.Contains(p.Replicas[0].Reason, " %")
}}
