//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

const keyFile = `api_key_file = "/etc/llm/key"`

// writeKey replaces the key.
func (s *site) writeKey(key string) {
	s.t.Helper()
	s.shell("install -d -m 755 /etc/llm; umask 077; echo " + key + " >/etc/llm/new; mv /etc/llm/new /etc/llm/key")
}

// asks is the status of a request to the engine of a pool with a key.
func (s *site) asks(id, key string) string {
	s.t.Helper()
	return s.shell("curl -s -m 10 -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer " + key + "' " +
		s.get(id).Replicas[0].Endpoint + "/v1/completions -d '{\"prompt\":\"a\",\"max_tokens\":1}' || true")
}

// takes waits until an engine is ready and takes a key, and no other.
func (s *site) takes(id, key, other string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		p, err := s.Pool(ctx, id)
		if err != nil || !p.Ready || len(p.Replicas) == 0 {
			return fmt.Errorf("%s: %w", p, err)
		}
		if with, without := s.asks(id, key), s.asks(id, other); with != "200" || without != "401" {
			return fmt.Errorf("%s answers %s with the key, %s without", id, with, without)
		}
		return nil
	})
}

// TestAPIKey: engines that ask for a key get it from PID 1 on each release, as a file or as a
// variable; the gate and the manager send it, it is nowhere to be read, and a new one is taken.
func TestAPIKey(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			defer h.shell("rm -rf /etc/llm /srv/v")
			h.shell("mkdir -p /srv/v; echo x >/srv/v/model.safetensors")
			h.writeKey("sk-first0")
			guarded := func(p poolFile) poolFile {
				return p.with(keyFile).table("health", `interval = "500ms"`, `timeout = "500ms"`, `path = "/props"`).
					table("restart", `initial = "300ms"`, `max = "1s"`)
			}
			pools := map[string]poolFile{"a-b": guarded(stub()), "apart": guarded(withoutNetwork(stub())),
				"command": guarded(command("--api-key-file", "{api_key_file}")),
				"vllm": guarded(poolFile{
					keys:   []string{`engine = "vllm"`, `model = "file:/srv/v"`, `devices = []`},
					tables: stub().tables,
				})}
			for id, file := range pools {
				h.pool(id, file)
			}
			h.reload()
			for id := range pools {
				h.wait(id, isReady)
				h.takes(id, "sk-first0", "sk-other")
				if out := h.must("poolctl", "status", id); strings.Contains(out, "does not report its") {
					t.Errorf("poolctl status %s:\n%s", id, out)
				}
				h.keepsSecret(id, "sk-first0")
			}

			h.writeKey("sk-second")
			h.shell("systemctl daemon-reload")
			for id := range pools {
				h.must("kill", "-KILL", fmt.Sprint(h.get(id).Replicas[0].PID))
				h.takes(id, "sk-second", "sk-first0") // PID 1's own restart takes the new one
			}
			h.writeKey("sk-third0")
			h.must("poolctl", "reload", "a-b", "--wait")
			h.takes("a-b", "sk-third0", "sk-second")
			h.takes("vllm", "sk-second", "sk-third0") // it was not reloaded
			h.must("systemctl", "restart", "pool-managerd")
			h.takes("vllm", "sk-third0", "sk-second")
			h.keepsSecret("vllm", "sk-third0")

			h.shell("chmod 644 /etc/llm/key")
			if out := h.shell("poolctl check || true"); !strings.Contains(out,
				"api_key_file /etc/llm/key has mode 0644") {
				t.Errorf("poolctl check:\n%s", out)
			}
		})
	}
}

// keepsSecret looks for a key where any user may look, and where logs go.
func (s *site) keepsSecret(id, key string) {
	s.t.Helper()
	p := s.get(id)
	unit, pid := p.Replicas[0].Unit, p.Replicas[0].PID
	pattern := key[:len(key)-1] + "[" + key[len(key)-1:] + "]" // which the search itself does not match
	for _, look := range []string{
		"systemctl show '" + unit + "'", "systemctl cat '" + unit + "'", "poolctl render " + id,
		"poolctl status -o json " + id, "cat /run/pool-managerd/engines/*.json", "journalctl --no-pager -o export",
		"curl -s --unix-socket /run/pool-managerd/api.sock http://x/metrics",
		fmt.Sprintf("tr '\\0' ' ' </proc/%d/cmdline", pid), "cat /var/lib/pool-managerd/*",
		"setpriv --reuid=nobody --clear-groups ps axewww",
		fmt.Sprintf("setpriv --reuid=nobody --clear-groups cat /proc/%d/environ '/run/credentials/%s/api-key' 2>&1",
			pid, unit),
	} {
		if out := s.shell("{ " + look + "; } | grep -ac '" + pattern + "' || true"); out != "0" {
			s.t.Errorf("%s shows the key in %s lines", look, out)
		}
	}
}

// TestCase7: a real llama-server with a key, on its port or on a unix socket, reports its slots and
// requests to the manager, and is probed where the key is needed.
func TestCase7(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	defer h.shell("rm -rf /etc/llm")
	h.writeKey("sk-real00")
	plain := poolFile{keys: append(slicesWithout(llama().keys, "slots"), keyFile)}
	for _, network := range []string{"none", "loopback"} {
		h.pool(network, plain.table("sandbox", `network = "`+network+`"`).
			table("health", `path = "/props"`, `interval = "500ms"`, `generate_interval = "1s"`))
	}
	h.pool("key", poolFile{keys: append(slicesWithout(llama().keys, "slots"), `args = ["--api-key", "sk-x"]`)})
	h.reload()
	for _, id := range []string{"none", "loopback"} {
		if p := h.wait(id, isReady); p.SlotsTotal != 4 {
			t.Errorf("%d slots, want llama-server's own 4: %s", p.SlotsTotal, p)
		}
		h.takes(id, "sk-real00", "sk-x")
		h.keepsSecret(id, "sk-real00")
		if out := h.must("poolctl", "status", id); strings.Contains(out, "does not report its") {
			t.Errorf("poolctl status %s:\n%s", id, out)
		}
	}
	h.wait("key", isReady)
	if out := h.must("journalctl", "--no-pager", "-u", "pool-managerd", "-o", "json"); !strings.Contains(out,
		"api_key_file") {
		t.Errorf("no hint at api_key_file for a key in args:\n%s", out)
	}
}
