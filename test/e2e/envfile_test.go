//go:build machine

package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/units/secret"
)

// environ is what the engine of a pool has in its environment.
func (s *site) environ(p host.Pool) string {
	s.t.Helper()
	return "\n" + s.shell(fmt.Sprintf("tr '\\0' '\\n' </proc/%d/environ | sort", p.Replicas[0].PID)) + "\n"
}

// hasEnvironment checks variables of an engine.
func (s *site) hasEnvironment(p host.Pool, want ...string) {
	s.t.Helper()
	got := s.environ(p)
	for _, assignment := range want {
		if name, _, _ := strings.Cut(assignment, "="); !strings.Contains(got, "\n"+assignment+"\n") ||
			strings.Count(got, "\n"+name+"=") != 1 {
			s.t.Errorf("no %s alone in%s", assignment, got)
		}
	}
}

// TestEnvFile: PID 1 gives an engine the variables of files that root alone can read, on each
// release. What the pool file and the manager set holds all the same, also in PID 1's own restart
// after the file changed; the values are nowhere to be read; what is wrong with a file is named.
func TestEnvFile(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			defer h.shell("rm -rf /etc/llm")
			h.shell("install -d -m 700 /etc/llm; umask 077; " +
				"printf 'HF_TOKEN=hf_first0\\nA=file\\nB=\"x y\"\\n' >/etc/llm/a.env")
			file := stub().with(`env_file = ["/etc/llm/a.env", "/etc/llm/b.env"]`, `env = { A = "of the pool" }`).
				table("restart", `initial = "300ms"`, `max = "1s"`)
			h.pool("a", file)
			h.reload()
			checks := func(want string) {
				t.Helper()
				if out := h.shell("poolctl check || true"); !strings.Contains(out, want) {
					t.Errorf("poolctl check, want %s:\n%s", want, out)
				}
			}
			h.wait("a", failsWith("PROVISION_FAILED"))
			checks("env_file /etc/llm/b.env does not exist\n    Write it")
			h.shell("umask 077; echo 'export C=hf_first0' >/etc/llm/b.env")
			checks("env_file /etc/llm/b.env is refused: line 1 begins with export, which PID 1 does not know")
			h.shell("printf '\\nHOME=/root\\n' >/etc/llm/b.env")
			checks("env_file /etc/llm/b.env (line 2) holds HOME, which pool-managerd sets itself")
			h.reloadFails()
			h.shell("echo 'C=${A} %h' >/etc/llm/b.env")
			h.reload()
			p := h.wait("a", isReady)
			own := []string{"A=of the pool", "B=x y", "C=${A} %h", "CUDA_VISIBLE_DEVICES=",
				"CUDA_DEVICE_ORDER=PCI_BUS_ID"}
			h.hasEnvironment(p, append(own, "HF_TOKEN=hf_first0")...)
			h.keepsSecret("a", "hf_first0")
			checks("The configuration is good.")

			h.shell("systemctl daemon-reload; systemctl stop pool-managerd; umask 077; " +
				"printf 'HF_TOKEN=hf_second\\nA=file\\nB=\"x y\"\\n' >/etc/llm/a.env; " +
				"printf 'CUDA_VISIBLE_DEVICES=0\\nHOME=/root\\n' >>/etc/llm/a.env; " +
				fmt.Sprintf("kill -KILL %d; ", p.Replicas[0].PID) +
				"until [ $(systemctl show -p MainPID --value '" + p.Replicas[0].Unit + "') -gt 0 ]; do " +
				"sleep 0.2; done; " +
				"sleep 1; " +
				"systemctl start pool-managerd")
			p = h.wait("a", isReady)
			h.hasEnvironment(p, append(own, "HF_TOKEN=hf_second")...)

			// The manager refused the file at its start: its next reload takes a good one.
			for _, c := range []struct{ token, reload string }{
				{"hf_third0", "systemctl reload pool-managerd"}, {"hf_fourth", "poolctl reload a --wait"},
			} {
				h.shell("umask 077; printf 'HF_TOKEN=" + c.token + "\\nB=\"x y\"\\n' >/etc/llm/a.env; " + c.reload)
				before := p.Replicas[0].PID
				h.eventually(func(ctx context.Context) (err error) {
					p, err = h.Pool(ctx, "a")
					if err == nil && (!p.Ready || len(p.Replicas) != 1 || p.Replicas[0].PID == before) {
						err = fmt.Errorf("the engine has the former file: %s", p)
					}
					return err
				})
				h.hasEnvironment(p, append(own, "HF_TOKEN="+c.token)...)
				h.keepsSecret("a", c.token)
			}
			h.shell("rm /etc/llm/a.env; poolctl reload a --wait || true")
			if gone := h.wait("a", isReady); gone.Replicas[0].PID != p.Replicas[0].PID {
				t.Errorf("a file that is gone ended the engine: %s", gone)
			}
		})
	}
}

// TestEnvFileAsPID1ReadsIt compares files of random quotes, escapes, comments and line ends with
// what PID 1 makes of them, on each release: what the manager takes of a file, PID 1 gives.
func TestEnvFileAsPID1ReadsIt(t *testing.T) {
	t.Parallel()
	const files = 150
	parts := []string{"A", "B=", "C_1=", "=", "\n", "\n", "\r\n", " ", "\t", `"`, `'`, `\`, "\\\n", "#", ";", "$A", "`", "x", "ž", "%h"}
	random := rand.New(rand.NewPCG(17, 4))
	var corpus []string
	var want []string
	for len(corpus) < files {
		text := "A="
		for range random.IntN(14) + 1 {
			text += parts[random.IntN(len(parts))]
		}
		found, err := secret.ParseEnvironment([]byte(text))
		if err != nil {
			continue
		}
		var all strings.Builder
		for _, name := range []string{"A", "B", "C_1"} {
			for _, v := range found {
				if v.Name == name {
					all.WriteString(name + "=" + v.Value + "\x00")
				}
			}
		}
		corpus, want = append(corpus, text), append(want, base64.StdEncoding.EncodeToString([]byte(all.String())))
	}
	var encoded strings.Builder
	for _, text := range corpus {
		encoded.WriteString(base64.StdEncoding.EncodeToString([]byte(text)) + "\n")
	}
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.write("/tmp/corpus", encoded.String())
			out := h.shell(`while read -r line; do echo "$line" | base64 -d >/tmp/one.env
systemd-run -q --pipe --wait -p EnvironmentFile=/tmp/one.env /usr/bin/env -0 </dev/null |
	grep -zE '^(A|B|C_1)=' | sort -z | base64 -w0; echo; done </tmp/corpus; rm /tmp/corpus /tmp/one.env`)
			got := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			if len(got) != files {
				t.Fatalf("%d answers:\n%s", len(got), out)
			}
			for i, text := range corpus {
				if got[i] != want[i] {
					now, _ := base64.StdEncoding.DecodeString(got[i])
					ours, _ := base64.StdEncoding.DecodeString(want[i])
					t.Errorf("%q: PID 1 has %q, and the manager %q", text, now, ours)
				}
			}
		})
	}
}
