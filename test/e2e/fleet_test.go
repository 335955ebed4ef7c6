//go:build machine

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

const startOrchestrator = `
	systemd-run --quiet --unit=orchestrator --service-type=exec /usr/local/bin/fakeorchestrator -listen 127.0.0.1:8090 -token t0ken-of-root
	until curl --silent --output /dev/null http://127.0.0.1:8090/nodes; do sleep 0.1; done`

// reporting is the host's configuration with an orchestrator.
const reporting = host.Config + `advertise_url = "http://gpu1.example.org:9200"
[orchestrator]
url = "http://127.0.0.1:8090"
token_file = "/etc/pool-managerd/fleet/token"
node_id = "gpu1"
interval = "2s"
`

// node is what the orchestrator has of this host.
type node struct {
	Registration struct {
		MachineID string `json:"machine_id"`
		Address   string
		Pools     []string
	}
	Registrations int
	Heartbeat     struct {
		Pools []struct {
			PoolID     string `json:"pool_id"`
			Ready      bool
			SlotsTotal int `json:"slots_total"`
		}
	}
	Heartbeats int
	AgeMS      int64 `json:"age_ms"`
}

// says is whether a heartbeat has the pool, ready or not.
func (n node) says(pool string, ready bool) bool {
	for _, p := range n.Heartbeat.Pools {
		if p.PoolID == pool {
			return p.Ready == ready
		}
	}
	return false
}

// orchestratorHas waits until the orchestrator has the host in a way, or lacks it (nil).
func (s *site) orchestratorHas(what string, is func(*node) bool) *node {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	for {
		var all map[string]*node
		if err := json.Unmarshal([]byte(s.shell("curl --silent http://127.0.0.1:8090/nodes")), &all); err != nil {
			s.t.Fatal(err)
		}
		if is(all["gpu1"]) {
			return all["gpu1"]
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the orchestrator did not have: %s; it has %+v\n%s", what, all["gpu1"],
				s.shell("systemctl status pool-fleet --no-pager --lines 20 || true"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestOrchestratorIsTold: with an orchestrator in config.toml, this host is registered there and
// reported over each fault, and gone from there when the key is.
func TestOrchestratorIsTold(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.shell(startOrchestrator)
			defer h.shell("systemctl stop orchestrator pool-fleet; rm -f /etc/pool-managerd/fleet/token")
			fleetSteps(t, h)
		})
	}
}

func fleetSteps(t *testing.T, h *site) {
	t.Run("nothing_runs_by_default", func(t *testing.T) {
		h := h.in(t)
		if state := h.shell("systemctl is-active pool-fleet || true"); strings.TrimSpace(state) != "inactive" {
			t.Errorf("pool-fleet is %s", state)
		}
	})
	t.Run("a_file_that_root_alone_may_read", func(t *testing.T) {
		h := h.in(t)
		h.shell("umask 077; echo t0ken-of-root >/etc/pool-managerd/fleet/token")
		h.pool("a", stub().quick())
		h.write(host.ConfigFile, reporting)
		h.reload()
		n := h.orchestratorHas("pool a, ready", func(n *node) bool { return n != nil && n.says("a", true) })
		machineID := strings.TrimSpace(h.shell("cat /etc/machine-id"))
		if n.Registration.Address != "http://gpu1.example.org:9200" || n.Registration.MachineID != machineID {
			t.Errorf("%+v", n.Registration)
		}
		for _, where := range []string{"journalctl --boot", "systemctl show pool-fleet", "ps -eo args"} {
			if strings.Contains(strings.ReplaceAll(h.shell(where), "-token t0ken-of-root", ""), "t0ken-of-root") {
				t.Errorf("the token is in the output of %s", where)
			}
		}
		user := h.shell("ps -o user= -p $(systemctl show -P MainPID pool-fleet)")
		if strings.TrimSpace(user) == "root" {
			t.Error("it runs as root")
		}
	})
	t.Run("a_crash_is_reported_before_the_next_heartbeat", func(t *testing.T) {
		h := h.in(t)
		h.shell("systemctl kill --kill-who=main --signal=KILL " + host.EngineUnit("a"))
		h.orchestratorHas("pool a, not ready", func(n *node) bool { return n != nil && n.says("a", false) })
		h.orchestratorHas("pool a, ready", func(n *node) bool { return n != nil && n.says("a", true) })
	})
	t.Run("another_pool_is_registered", func(t *testing.T) {
		h := h.in(t)
		h.pool("b", stub().quick())
		h.reload()
		h.orchestratorHas("pools a and b", func(n *node) bool {
			return n != nil && len(n.Registration.Pools) == 2 && n.says("b", true)
		})
	})
	t.Run("kills_of_publisher_and_manager_take_nothing_back", func(t *testing.T) {
		h := h.in(t)
		before := h.orchestratorHas("this host", func(n *node) bool { return n != nil })
		h.shell("systemctl kill --signal=KILL pool-fleet pool-managerd")
		h.orchestratorHas("another registration of the same node", func(n *node) bool {
			if n == nil {
				t.Fatal("the host was taken back")
			}
			return n.Registrations > before.Registrations && n.Heartbeats > before.Heartbeats && n.says("a", true)
		})
	})
	t.Run("an_orchestrator_that_forgot_gets_the_host_again", func(t *testing.T) {
		h := h.in(t)
		h.shell("systemctl stop orchestrator")
		h.shell(startOrchestrator)
		h.orchestratorHas("pool a, ready", func(n *node) bool { return n != nil && n.says("a", true) })
	})
	t.Run("a_manager_that_hangs_is_not_reported", func(t *testing.T) {
		h := h.in(t)
		h.shell("systemctl kill --kill-who=main --signal=STOP pool-managerd")
		h.orchestratorHas("no heartbeat for five seconds", func(n *node) bool { return n != nil && n.AgeMS > 5000 })
		h.shell("systemctl kill --kill-who=main --signal=CONT pool-managerd")
		h.orchestratorHas("a heartbeat", func(n *node) bool { return n != nil && n.AgeMS < 2000 })
	})
	t.Run("a_configuration_that_is_wrong_changes_nothing", func(t *testing.T) {
		h := h.in(t)
		h.write(host.ConfigFile, strings.Replace(reporting, `interval = "2s"`, "interval = 2", 1))
		h.shell("! systemctl reload pool-managerd; systemctl kill --signal=KILL pool-fleet")
		h.orchestratorHas("a heartbeat of the next process", func(n *node) bool { return n != nil && n.AgeMS < 500 })
		h.shell("sleep 3")
		h.orchestratorHas("a heartbeat", func(n *node) bool { return n != nil && n.AgeMS < 2500 })
		h.write(host.ConfigFile, reporting)
		h.reload()
	})
	t.Run("a_wrong_token_is_said_with_what_to_do", func(t *testing.T) {
		h := h.in(t)
		h.shell("echo wrong >/etc/pool-managerd/fleet/token; systemctl restart pool-fleet")
		h.shell("until journalctl -u pool-fleet --output=cat | grep --quiet 'status 401'; do sleep 0.2; done")
		h.shell("echo t0ken-of-root >/etc/pool-managerd/fleet/token; systemctl restart pool-fleet")
		h.orchestratorHas("a heartbeat", func(n *node) bool { return n != nil && n.AgeMS < 2000 })
	})
	t.Run("in_etcd_too", func(t *testing.T) { etcdSteps(t, h.in(t)) })
	t.Run("gone_with_its_key", func(t *testing.T) {
		h := h.in(t)
		h.write(host.ConfigFile, host.Config)
		h.reload()
		h.orchestratorHas("nothing", func(n *node) bool { return n == nil })
		h.shell("until [ $(systemctl is-active pool-fleet) = inactive ]; do sleep 0.2; done")
	})
}
