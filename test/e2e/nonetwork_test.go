//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// withoutNetwork is a pool that asks for it.
func withoutNetwork(p poolFile) poolFile { return p.table("sandbox", `network = "none"`) }

// TestWithoutNetwork: an engine without a network serves at the port that PID 1 holds for it, on
// each release, whatever happens to the engine, the manager and PID 1; from inside it reaches
// nothing.
func TestWithoutNetwork(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("a", withoutNetwork(stub().quick()))
			h.pool("other", stub().quick())
			h.reload()
			p := h.wait("a", isReady)
			neighbour := h.wait("other", isReady)
			for _, c := range []struct {
				name string
				try  func(*site, host.Pool)
			}{
				{"serves_streams_at_its_port", (*site).streams},
				{"reaches_nothing", func(h *site, _ host.Pool) { h.reachesNothing("a", address(neighbour)) }},
				{"is_reached_by_nothing_else", (*site).isReachedByNothingElse},
				{"survives_the_manager_and_reloads", (*site).keepsItsPort},
				{"port_stays_held_over_a_crash", (*site).staysHeld},
				{"drains_after_its_requests", (*site).drainsAfterRequests},
				{"port_is_held_again", (*site).isHeldAgain},
				{"reloads_beside_itself", (*site).reloadsBeside},
				{"port_goes_with_the_pool", (*site).portGoes},
			} {
				t.Run(c.name, func(t *testing.T) { c.try(h.in(t), p) })
			}
		})
	}
}

// address is where a pool's first replica serves, as "127.0.0.1:21000".
func address(p host.Pool) string { return strings.TrimPrefix(p.Replicas[0].Endpoint, "http://") }

// socketOf is the socket unit of a pool's port.
func socketOf(p host.Pool) string {
	return "pool-port@" + p.ID + "." + p.Replicas[0].ID + "." + strings.TrimPrefix(address(p), "127.0.0.1:") + ".socket"
}

// streams: each token arrives when it is sent, and not with the next one.
func (s *site) streams(p host.Pool) {
	number := strings.TrimPrefix(address(p), "127.0.0.1:")
	if user := s.shell("ss -Hltne 'sport = :" + number + "' | grep -c uid: || true"); user != "0" {
		s.t.Errorf("another user than root listens on the port: %s", user)
	}
	out := s.shell("curl -sS -N -m 20 -X POST -d '{\"stream\":true}' 'http://" + address(p) +
		"/v1/completions?delay=300ms' | head -c 1 | wc -c")
	if out != "1" {
		s.t.Errorf("no stream at %s: %q", address(p), out)
	}
}

// reachesNothing dials from inside the engine.
func (s *site) reachesNothing(id, neighbour string) {
	s.write("/root/hidden.pl", `use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0);
bind($s, pack_sockaddr_un("\0hidden")) or die; listen($s, 5); sleep;`)
	s.must("systemd-run", "--quiet", "--collect", "--unit=hidden", "perl", "/root/hidden.pl")
	defer s.must("systemctl", "stop", "hidden")
	for _, target := range []string{"tcp&address=" + neighbour, "unix&address=@hidden"} {
		s.eventually(func(ctx context.Context) error { // the listener of the second has begun
			a, err := s.Engine(ctx, "other", "POST", "/stub/dial?network="+target, nil)
			if err == nil && !strings.HasPrefix(string(a.Body), "connected") {
				err = fmt.Errorf("an engine with a network does not reach %s: %s", target, a.Body)
			}
			return err
		})
	}
	for _, target := range []string{"tcp&address=" + neighbour, "tcp&address=" + host.TCPAddress,
		"tcp&address=[::1]:22", "udp&address=127.0.0.53:53", "unix&address=@hidden",
		"unix&address=/run/systemd/private", "unix&address=/run/pool-engine/other.r0/engine.sock"} {
		s.t.Run(strings.NewReplacer("/", "_", "[", "", "]", "", ":", "_").Replace(target), func(t *testing.T) {
			sub := s.in(t)
			ctx, cancel := sub.within()
			defer cancel()
			a, err := sub.Engine(ctx, id, "POST", "/stub/dial?network="+target, nil)
			if err != nil || a.Status != 200 {
				t.Fatalf("%d %s %v", a.Status, a.Body, err)
			}
			if got := string(a.Body); strings.HasPrefix(got, "connected") || got == "" {
				t.Errorf("it reached %s: %s", target, got)
			}
		})
	}
}

// isReachedByNothingElse: only root and the engine's own user open the directory of its socket.
func (s *site) isReachedByNothingElse(p host.Pool) {
	out := s.shell("setpriv --reuid=nobody --clear-groups ls /run/pool-engine/a.r0 2>&1 || true")
	if !strings.Contains(out, "Permission denied") {
		s.t.Errorf("another user sees the socket: %s", out)
	}
	if mode := s.shell("stat -c '%a %U' /run/pool-engine/a.r0"); !strings.HasPrefix(mode, "700 pe-a-") {
		s.t.Errorf("the directory of its socket is %s", mode)
	}
	forwarder := strings.TrimSuffix(socketOf(p), ".socket") + ".service"
	if out := s.must("systemctl", "show", "-P", "User", forwarder); !strings.HasPrefix(out, "pe-a-") {
		s.t.Errorf("the forwarder is user %s", out)
	}
}

// keepsItsPort: the manager's end, a daemon-reload and a daemon-reexec change nothing for a client.
func (s *site) keepsItsPort(p host.Pool) {
	before := s.engines()
	for _, do := range []string{"systemctl kill --kill-whom=main --signal=KILL pool-managerd", "systemctl daemon-reload",
		"systemctl daemon-reexec", "systemctl restart pool-managerd"} {
		s.shell(do)
		s.shell("curl -sS -m 5 -f http://" + address(p) + "/health")
		now := s.wait("a", isReady)
		if address(now) != address(p) {
			s.t.Errorf("after %s it serves at %s, not at %s", do, address(now), address(p))
		}
	}
	s.untouched(before)
}

// staysHeld: between two runs of the engine no other program gets its port.
func (s *site) staysHeld(p host.Pool) {
	s.control("a", "/stub/crash")
	s.squat("squat-a", strings.TrimPrefix(address(p), "127.0.0.1:")+" .. "+strings.TrimPrefix(address(p), "127.0.0.1:"))
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "journalctl -o cat -u squat-a --no-pager | grep squatting")
		if err == nil && strings.TrimSpace(out) != "squatting on 0" {
			err = fmt.Errorf("another program has the port: %s", out)
		}
		return err
	})
	now := s.wait("a", isReady, restarted(1))
	if address(now) != address(p) {
		s.t.Errorf("it serves at %s, not at %s", address(now), address(p))
	}
	// While the engine is down for good, a client is refused by the forwarder and by no one else.
	s.must("systemctl", "stop", host.EngineUnit("a"))
	if out := s.shell("curl -sS -m 5 http://" + address(p) + "/health 2>&1 || true"); !strings.Contains(out, "reset") &&
		!strings.Contains(out, "Empty reply") {
		s.t.Errorf("the port of a stopped engine: %s", out)
	}
	s.must("systemctl", "start", host.EngineUnit("a"))
	s.wait("a", isReady)
}

// drainsAfterRequests: a request that is under way is answered before the engine ends.
func (s *site) drainsAfterRequests(p host.Pool) {
	s.write("/root/slow.sh", `curl -sS -m 20 -f -X POST 'http://`+address(p)+`/v1/completions?delay=2s' >/root/slow.out
echo "status $?" >>/root/slow.out`)
	s.must("systemd-run", "--quiet", "--collect", "--unit=slow", "sh", "/root/slow.sh")
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "curl -sS -m 5 http://"+address(p)+"/slots")
		if err == nil && !strings.Contains(out, `"is_processing":true`) {
			err = fmt.Errorf("not under way: %s", out)
		}
		return err
	})
	s.must("poolctl", "drain", "a")
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "tail -n 1 /root/slow.out")
		if err == nil && strings.TrimSpace(out) != "status 0" {
			err = fmt.Errorf("the request has not ended well: %s", out)
		}
		return err
	})
	s.must("poolctl", "resume", "a")
	s.wait("a", isReady)
}

// isHeldAgain: a socket unit that was stopped by hand is started again, and the engine stays.
func (s *site) isHeldAgain(p host.Pool) {
	before := s.engines()
	s.must("systemctl", "stop", socketOf(p))
	s.eventually(func(ctx context.Context) error {
		_, err := s.Shell(ctx, "systemctl is-active '"+socketOf(p)+"' && curl -sS -m 5 -f http://"+address(p)+"/health")
		return err
	})
	s.wait("a", isReady)
	s.untouched(before)
}

// reloadsBeside: the other side of a reload has a port of its own, and the former one is released.
func (s *site) reloadsBeside(host.Pool) {
	s.must("cp", host.TinyModel, "/srv/models/again.gguf")
	s.must("poolctl", "reload", "a", "--model", "file:/srv/models/again.gguf")
	p := s.waitFor(2*patience, "a", isReady, condition{"reloaded", func(p host.Pool) bool {
		return p.Reload == nil && len(p.Replicas) == 1 && p.Replicas[0].ID == "r0b"
	}})
	s.shell("curl -sS -m 5 -f http://" + address(p) + "/health")
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "systemctl list-units --plain --no-legend 'pool-port@*.socket' | cut -d' ' -f1")
		if err == nil && strings.TrimSpace(out) != socketOf(p) {
			err = fmt.Errorf("PID 1 holds %s, want %s", out, socketOf(p))
		}
		return err
	})
}

// portGoes: the units of the port end with the pool.
func (s *site) portGoes(host.Pool) {
	s.removePool("a")
	s.reload()
	s.waitGone("a")
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "systemctl list-units --all --plain --no-legend 'pool-port@*'; "+
			"ls /run/systemd/transient | grep pool-port || true")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("left: %s", out)
		}
		return err
	})
}

// TestWithoutNetworkByDefault: the real llama-server has no network unless its pool asks for one,
// and computes and streams.
func TestWithoutNetworkByDefault(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("real", llama().quick())
	h.pool("open", llama().quick().table("sandbox", `network = "loopback"`))
	h.reload()
	p := h.wait("real", isReady)
	h.wait("open", isReady)
	for id, want := range map[string]string{"real": "yes", "open": "no"} {
		if got := h.must("systemctl", "show", "-P", "PrivateNetwork", host.EngineUnit(id)); got != want {
			t.Errorf("%s: PrivateNetwork=%s, want %s", id, got, want)
		}
	}
	out := h.shell(`curl -sS -N -m 60 -X POST -H 'Content-Type: application/json' ` +
		`-d '{"prompt":"a","n_predict":50,"ignore_eos":true,"stream":true}' http://` + address(p) +
		`/completion >/root/stream.out; grep -c '^data:' /root/stream.out; grep -c '"stop":true' /root/stream.out`)
	if out != "50\n1" && out != "51\n1" {
		t.Errorf("a stream of 50 tokens was cut: %q", out)
	}
	out = h.must("systemd-analyze", "security", "--no-pager", host.EngineUnit("real"))
	if !strings.Contains(out, "SAFE") {
		t.Errorf("exposure:\n%s", out[max(0, len(out)-400):])
	} else {
		t.Log(out[strings.LastIndex(out, "→"):])
	}
}
