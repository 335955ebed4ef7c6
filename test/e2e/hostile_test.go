//go:build machine

package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

const hostileload = "/usr/local/bin/hostileload"

// armed puts the hostile client into the machine.
func (s *site) armed() {
	s.t.Helper()
	if err := s.M.CopyIn(s.t.Context(), machines.parts.Hostile, hostileload); err != nil {
		s.t.Fatal(err)
	}
	s.must("chmod", "755", hostileload)
}

// TestHostileUsers: twenty clients of six kinds, over the unix socket and over TCP, hold as many
// connections as they can. Root's poolctl list is answered each time, and the log has a line a
// minute.
func TestHostileUsers(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.armed()
	h.pool("a", stub().quick())
	h.reload()
	h.wait("a", isReady)
	for network, address := range map[string]string{"unix": host.Socket, "tcp": host.TCPAddress} {
		h.must("systemd-run", "--quiet", "--unit=attack-"+network, "--property=DynamicUser=yes",
			"--property=LimitNOFILE=65536", hostileload, "attack", network, address, "20", "64", "300")
	}
	var seen struct {
		P50      float64  `json:"p50_ms"`
		P99      float64  `json:"p99_ms"`
		Failed   int      `json:"failed"`
		Failures []string `json:"failures"`
	}
	h.shell("sleep 2") // so that they hold what they can
	out := h.must(hostileload, "time", "40", "poolctl", "list")
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("poolctl list: median %.1f ms, p99 %.1f ms", seen.P50, seen.P99)
	if seen.Failed > 0 {
		t.Errorf("root was refused %d times of 40: %q", seen.Failed, seen.Failures)
	}
	held := h.shell(hostileload + " get http://" + host.TCPAddress +
		"/metrics | grep '^api_connections{kind=\"request\"}' | cut -d' ' -f2")
	if open, err := strconv.Atoi(held); err != nil || open < 100 {
		t.Errorf("only %q connections were held: that was no attack", held)
	}
	for network := range map[string]bool{"unix": true, "tcp": true} {
		h.must("systemctl", "stop", "attack-"+network)
	}
	lines, err := strconv.Atoi(h.shell(`journalctl -u pool-managerd -o cat | grep -c 'too many connections are open'`))
	if err != nil || lines < 1 || lines > 12 {
		t.Errorf("%d lines about it in the log (%v)", lines, err)
	}
}

// TestEnginesMayNotCall: a process in pool-engines.slice is refused over TCP although tokens are
// optional here, on each release, and any other local one is not.
func TestEnginesMayNotCall(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.armed()
			url := "http://" + host.TCPAddress + "/v1/pools"
			ask := func(properties ...string) string {
				args := append([]string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect"}, properties...)
				return h.must(append(args, hostileload, "get", url)...)
			}
			if out := ask(); !strings.HasPrefix(out, "200 ") {
				t.Errorf("another service: %s", out)
			}
			if out := ask("--property=DynamicUser=yes"); !strings.HasPrefix(out, "200 ") {
				t.Errorf("a service with a dynamic user: %s", out)
			}
			for _, who := range [][]string{{"--slice=pool-engines.slice"}, {"--slice=pool-engines.slice",
				"--property=DynamicUser=yes"}} {
				if out := ask(who...); !strings.HasPrefix(out, "403 ") ||
					!strings.Contains(out, "engines may not call") {
					t.Errorf("%v: %s", who, out)
				}
			}
			const asked = "journalctl -u pool-managerd -o cat | grep -c 'could not ask the kernel' || true"
			if out := h.shell(asked); out != "0" {
				t.Errorf("the kernel was not asked: %s", h.shell("journalctl -u pool-managerd -o cat | tail -20"))
			}
			if out := h.must("systemctl", "show", "-P", "RestrictAddressFamilies",
				host.ManagerUnit); strings.Contains(out,
				"NETLINK") {
				t.Errorf("the manager may open netlink sockets: %s", out)
			}
			fmt.Fprintln(t.Output(), h.must("systemctl", "show", "-P", "Listen", "pool-managerd.socket"))
		})
	}
}
