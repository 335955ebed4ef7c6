//go:build machine

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestFilesOfAPool: the engine sees the files that its pool names and nothing around them. While
// one is missing or unreadable the pool waits, and poolctl check names it; one that was replaced is
// another version at the next reload.
func TestFilesOfAPool(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			defer h.shell("rm -rf /srv/[!m]*")
			h.shell("rm -rf /srv/[!m]*; mkdir -p /srv/t/more; echo secret >/srv/t/secret; echo x >/srv/t/more/one")
			h.pool("a", command("-m", "/srv/t/a.jinja").quick().with(`files = ["/srv/t/a.jinja", "/srv/t/more"]`))
			h.reload()
			h.wait("a", failsWith("PROVISION_FAILED"))
			if out := h.shell("poolctl check || true"); !strings.Contains(out,
				"a.toml:4:10: file /srv/t/a.jinja of files[0] does not exist\n    Copy it there") {
				t.Errorf("poolctl check:\n%s", out)
			}
			h.shell("echo one >/srv/t/a.jinja; chmod 600 /srv/t/a.jinja")
			if out := h.shell("poolctl check || true"); !strings.Contains(out, "has mode 0600") ||
				!strings.Contains(out, "chmod o+r '/srv/t/a.jinja'") {
				t.Errorf("poolctl check:\n%s", out)
			}
			h.shell("chmod 644 /srv/t/a.jinja")
			p := h.wait("a", isReady)
			sees := h.shell(fmt.Sprintf("nsenter -t %d -m find /srv ! -type d | sort | xargs", p.Replicas[0].PID))
			if sees != "/srv/t/a.jinja /srv/t/more/one" {
				t.Errorf("the engine sees %s", sees)
			}
			if out := h.must("poolctl", "check"); out != "The configuration is good." {
				t.Errorf("poolctl check:\n%s", out)
			}
			if out := h.shell("poolctl reload a --wait"); h.wait("a", isReady).Replicas[0].PID != p.Replicas[0].PID {
				t.Errorf("a reload of the same files started another engine: %s", out)
			}
			h.shell("echo two >/srv/t/b.jinja; mv /srv/t/b.jinja /srv/t/a.jinja; poolctl reload a --wait")
			if now := h.wait("a", isReady); now.Replicas[0].PID == p.Replicas[0].PID {
				t.Errorf("the engine has the former file: %s", now)
			}
		})
	}
}

// TestCase2: a real llama-server gets each file that its options name.
func TestCase2(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	defer h.shell("rm -rf /srv/x")
	h.writeParts("/srv/x")
	h.shell("cp " + host.TinyModel + " /srv/x/draft.gguf; cp /srv/x/draft.gguf /srv/x/mmproj.gguf")
	h.write("/srv/x/chat.jinja", "{% for m in messages %}[said] {{ m['content'] }}{% endfor %}")
	h.write("/srv/x/a.gbnf", `root ::= "yes" | "no"`)
	h.write("/srv/x/a.json", `{"type": "integer"}`)
	h.pool("template", llama().with(`args = ["--jinja", "--chat_template_file", "/srv/x/chat.jinja"]`))
	h.pool("variable", llama().with(`env = { LLAMA_ARG_CHAT_TEMPLATE_FILE = "/srv/x/chat.jinja" }`))
	h.pool("grammar", llama().with(`args = ["--grammar-file", "/srv/x/a.gbnf"]`))
	h.pool("schema", llama().with(`args = ["-jf", "/srv/x/a.json"]`))
	h.pool("draft", llama().with(`args = ["-md", "/srv/x/draft.gguf", "--spec-type", "draft-simple"]`))
	h.pool("lora", llama().with(`args = ["--lora", "/srv/x/lora.gguf"]`))
	h.pool("mmproj", llama().with(`args = ["--mmproj", "/srv/x/mmproj.gguf"]`))
	h.pool("pointer", llama().with(`args = ["--mmproj", "/srv/x/pointer.gguf"]`))
	h.write("/srv/x/pointer.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
	h.reload()
	for _, id := range []string{"template", "variable", "grammar", "schema", "draft", "lora"} {
		p := h.wait(id, isReady)
		completes(t, h, id)
		said := h.shell("curl -sS -m 20 " + p.Replicas[0].Endpoint + "/props; curl -sS " + p.Replicas[0].Endpoint +
			"/lora-adapters")
		if named := strings.Contains(said, "[said]"); named != (id == "template" || id == "variable") {
			t.Errorf("%s has the template: %t", id, named)
		}
		if named := strings.Contains(said, "/srv/x/lora.gguf"); named != (id == "lora") {
			t.Errorf("%s has the adapter: %t", id, named)
		}
		if id == "grammar" {
			out := h.shell("curl -sS -m 20 -d '{\"prompt\":\"a\",\"n_predict\":4}' " + p.Replicas[0].Endpoint +
				"/completion")
			if !strings.Contains(out, `"content":"yes"`) && !strings.Contains(out, `"content":"no"`) {
				t.Errorf("without the grammar: %s", out)
			}
		}
	}
	h.draftsAndAdapts()
	h.wait("pointer", failsWith("PROVISION_FAILED"))
	// It is opened, and is no projector: the engine's own words say so.
	h.wait("mmproj", failsWith("ENGINE_START_FAILED"))
	if out := h.must("poolctl", "logs", "mmproj", "-n", "all"); strings.Contains(out, "No such file") ||
		!strings.Contains(out, "/srv/x/mmproj.gguf") {
		t.Errorf("poolctl logs mmproj:\n%s", out)
	}
}

// draftsAndAdapts: a draft model proposes tokens, which the model takes, since it is the same one;
// and an adapter changes what the model says, by as much as a request asks for.
func (s *site) draftsAndAdapts() {
	s.t.Helper()
	say := func(id, more string) (text string, drafted, taken int) {
		var answer struct {
			Content string
			Timings struct {
				Drafted int `json:"draft_n"`
				Taken   int `json:"draft_n_accepted"`
			}
		}
		s.engineAnswer(id, "/completion", `{"prompt":"hello there","n_predict":24,"temperature":0`+more+`}`, &answer)
		return answer.Content, answer.Timings.Drafted, answer.Timings.Taken
	}
	plain, n, _ := say("template", "")
	if text, drafted, taken := say("draft", ""); text != plain || n != 0 || drafted == 0 || taken != drafted {
		s.t.Errorf("with a draft model: %q, %d tokens drafted, %d taken; without: %q", text, drafted, taken, plain)
	}
	adapted, _, _ := say("lora", "")
	without, _, _ := say("lora", `,"lora":[{"id":0,"scale":0}]`)
	if adapted == plain || without != plain {
		s.t.Errorf("with the adapter %q, at scale 0 %q, without it %q", adapted, without, plain)
	}
}
