//go:build machine

package e2e

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// inEtcd is the host's configuration with an etcd beside the orchestrator.
const inEtcd = reporting + `
[etcd]
endpoints = ["http://127.0.0.1:2379"]
ttl = "5s"
`

const startEtcd = `
	systemd-run --quiet --collect --unit=etcd-test --service-type=exec --property=StateDirectory=etcd-test /usr/local/bin/etcd --data-dir /var/lib/etcd-test
	until ETCDCTL_API=3 /usr/local/bin/etcdctl endpoint health 2>/dev/null; do sleep 0.2; done`

const untilEtcdEnded = "until [ $(systemctl is-active etcd-test) != active ]; do sleep 0.1; done\n"

// etcdHas waits until the keys of pools in etcd are these ids.
func (s *site) etcdHas(want string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	for {
		keys := s.shell("ETCDCTL_API=3 /usr/local/bin/etcdctl get --keys-only --prefix /pool-managerd/ || true")
		var got []string
		for _, line := range strings.Fields(keys) {
			switch parts := strings.Split(line, "/"); parts[2] {
			case "hosts":
				got = append(got, "host")
			case "pools":
				got = append(got, parts[4])
			}
		}
		if strings.Join(got, " ") == want {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("etcd has %q, want %q\n%s", got, want,
				s.shell("systemctl status pool-fleet --no-pager --lines 20 || true"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// etcdSteps: in its sandbox, pool-fleet publishes this host in an etcd, over what happens to both.
func etcdSteps(t *testing.T, h *site) {
	for _, program := range []string{"etcd", "etcdctl"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skip("no " + program + " on this host (Debian: etcd-server, etcd-client): it is not tried in a machine")
		}
		if err := h.M.CopyIn(t.Context(), path, "/usr/local/bin/"+program); err != nil {
			t.Fatal(err)
		}
	}
	h.shell(startEtcd)
	defer h.shell("systemctl stop etcd-test")
	h.write(host.ConfigFile, inEtcd)
	h.reload()
	h.etcdHas("host a b")
	h.shell(`systemctl show -P StatusText pool-fleet | grep "2 pools published below /pool-managerd"`)
	etcdAway(h)
	h.shell("systemctl kill --signal=KILL pool-fleet etcd-test")
	h.shell(untilEtcdEnded + startEtcd)
	h.etcdHas("host a b")
	h.shell("systemctl kill --kill-who=main --signal=STOP pool-managerd")
	h.etcdHas("")
	h.shell("systemctl kill --kill-who=main --signal=CONT pool-managerd")
	h.etcdHas("host a b")
	h.shell("systemctl kill --signal=STOP pool-fleet")
	h.etcdHas("")
	h.shell("systemctl kill --signal=CONT pool-fleet")
	h.etcdHas("host a b")
	exposure := overallExposure.FindStringSubmatch(h.shell("systemd-analyze security --no-pager pool-fleet"))
	if len(exposure) != 2 || exposure[1] > "1.5" {
		t.Errorf("exposure: %v", exposure)
	}
	kib := strings.TrimSpace(h.shell("awk '/VmRSS/ {print $2}' /proc/$(systemctl show -P MainPID pool-fleet)/status"))
	t.Logf("pool-fleet has %s KiB resident, exposure %s", kib, exposure)
	if n, err := strconv.Atoi(kib); err != nil || n > 20<<10 {
		t.Errorf("pool-fleet has %s KiB resident, want 20 MiB at most", kib)
	}
	etcdRead(h)
	h.write(host.ConfigFile, reporting)
	h.reload()
	h.etcdHas("") // its lease ends: the next process has no etcd
}

// etcdAway: while etcd is away for longer than the host's lease there, a lease of a slot is renewed
// and the API answers as before, engines run on, and the host is published when etcd is back.
func etcdAway(h *site) {
	ctx, cancel := h.within()
	defer cancel()
	before, c := h.engines(), h.client()
	lease, err := c.Acquire(ctx, "a", "", 3*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	h.shell("systemctl kill --signal=KILL etcd-test; " + untilEtcdEnded)
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		begun := time.Now()
		if err := c.Renew(ctx, lease, 3*time.Second); err != nil {
			h.t.Fatalf("while etcd is away: %v", err)
		}
		if _, err := c.Status(ctx, "/v1", "b"); err != nil {
			h.t.Fatalf("while etcd is away: %v", err)
		}
		if took := time.Since(begun); took > time.Second {
			h.t.Errorf("while etcd is away, a renewal and a look took %s", took)
		}
	}
	if err := c.Release(ctx, lease); err != nil {
		h.t.Error(err)
	}
	h.untouched(before)
	h.shell(startEtcd)
	h.etcdHas("host a b")
}

// etcdRead: the fleet is shown on the socket of pool-fleet's sandbox, to any user, and by the
// manager.
func etcdRead(h *site) {
	const names = `sort | sed "s,.*/,," | xargs | grep -qx "a b"`
	h.shell("stat -c %a /run/pool-fleet/fleet.sock | grep -qx 666")
	h.shell("poolctl fleet list -o name | " + names)
	h.shell("setpriv --reuid=nobody --clear-groups poolctl fleet list -o name | " + names)
	h.shell("poolctl fleet list -o name --socket /run/pool-managerd/api.sock | " + names)
	h.shell(`(timeout 2 poolctl fleet events --initial || true) | grep -c " pool " | grep -qx 2`)
	h.shell("systemctl kill --signal=KILL pool-fleet")
	h.shell("until poolctl fleet list -o name | " + names + "; do sleep 0.2; done")
}
