//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

const hostileload = "/usr/local/bin/hostileload"

// adminSocket is of root and the group pool-managerd.
const adminSocket = "/run/pool-managerd/admin.sock"

// armed puts the hostile client into the machine.
func (s *site) armed() {
	s.t.Helper()
	if err := s.M.CopyIn(s.t.Context(), machines.parts.Hostile, hostileload); err != nil {
		s.t.Fatal(err)
	}
	s.must("chmod", "755", hostileload)
}

// TestHostileUsers: twenty clients of six kinds, over the unix socket and over TCP, hold as many
// connections as they can. Root's poolctl list is answered each time, over the socket that they
// share and over its own, and the log has a line a minute.
func TestHostileUsers(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.armed()
	h.pool("a", stub().quick())
	h.reload()
	h.wait("a", isReady)
	quiet := h.timed(40)
	for network, address := range map[string]string{"unix": host.Socket, "tcp": host.TCPAddress} {
		h.must("systemd-run", "--quiet", "--unit=attack-"+network, "--property=DynamicUser=yes",
			"--property=LimitNOFILE=65536", hostileload, "attack", network, address, "20", "64", "300")
	}
	h.shell("sleep 2") // so that they hold what they can
	attacked := h.timed(100)
	for i, what := range timedThings {
		t.Logf("%-40s %s; attacked %s", strings.Join(what, " "), quiet[i], attacked[i])
		if seen := attacked[i]; seen.Failed > 0 {
			t.Errorf("%v: root was refused %d times of 100: %q", what, seen.Failed, seen.Failures)
		}
	}
	// A busy host delays both alike. What the attack adds of its own, in the queue of a socket or
	// within the manager, is in the first alone.
	list, nothing := attacked[0], attacked[len(attacked)-1]
	if list.P50 > 10*nothing.P50 {
		t.Errorf("poolctl list took %s under attack, and a command that connects to nothing %s", list, nothing)
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

// timedThings are what TestHostileUsers times: what an administrator types, the request alone, and
// a command that connects to nothing.
var timedThings = [][]string{
	{"poolctl", "list"}, {"poolctl", "--socket", host.Socket, "list"},
	{"ask", adminSocket, "/v1/pools"}, {"ask", host.Socket, "/v1/pools"},
	{"poolctl", "--help"},
}

// timed does each of timedThings n times, in turn.
func (s *site) timed(n int) []host.Timings {
	s.t.Helper()
	seen, err := s.Timed(s.t.Context(), hostileload, n, timedThings)
	if err != nil {
		s.t.Fatal(err)
	}
	return seen
}

// TestFullSocket: while the manager accepts no one, a hostile user fills the socket that it shares
// with root to its last place. Root's own socket still has room, and no other user may connect to
// it; the manager answers over it as soon as it runs.
func TestFullSocket(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.armed()
	asNobody := func(socket, seconds string) string {
		return h.must("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=DynamicUser=yes",
			"--property=LimitNOFILE=65536", hostileload, "fill", socket, seconds)
	}
	if out := asNobody(adminSocket, "0"); !strings.Contains(out, "permission denied") {
		t.Errorf("another user connected: %s", out)
	}
	h.must("systemctl", "kill", "--signal=STOP", host.ManagerUnit)
	defer h.Host.Run(context.WithoutCancel(t.Context()), "systemctl", "kill", "--signal=CONT", host.ManagerUnit)
	h.must("systemd-run", "--quiet", "--unit=fill", "--property=DynamicUser=yes", "--property=LimitNOFILE=65536",
		"--property=Type=notify", "--property=NotifyAccess=all", hostileload, "fill", host.Socket, "60")
	if out := h.must(hostileload, "fill", host.Socket, "0"); !strings.HasPrefix(out, "0 ") ||
		!strings.Contains(out, "resource temporarily unavailable") {
		t.Fatalf("the socket of every user was not full: %s", out)
	}
	if out := h.must(hostileload, "fill", adminSocket, "0", "1"); !strings.HasPrefix(out, "1 ") {
		t.Errorf("root's socket had no room: %s", out)
	}
	h.must("systemctl", "kill", "--signal=CONT", host.ManagerUnit)
	if out := h.must("poolctl", "list"); !strings.Contains(out, "No pools") {
		t.Errorf("poolctl list: %s", out)
	}
	h.must("systemctl", "stop", "fill")
}

// TestEnginesMayNotCall: a process in pool-engines.slice or pool-fetch.slice is refused over TCP
// although tokens are optional here, on each release, and any other local one is not.
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
				"--property=DynamicUser=yes"}, {"--slice=pool-fetch.slice", "--property=User=pool-fetch"}} {
				if out := ask(who...); !strings.HasPrefix(out, "403 ") ||
					!strings.Contains(out, "may not call the API") {
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
