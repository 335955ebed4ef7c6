//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// fixing is a command that an administrator types after the first, with the words of the program
// that lead to it: they must have been printed before.
type fixing struct {
	clue    string
	command string
}

// broken is a pool that is not ready, and how it is fixed.
type broken struct {
	id     string
	before string // a script that makes it so, before the pool's file is read
	file   fmt.Stringer
	after  string // and after the pool is ready, if it was
	says   condition
	fix    []fixing
}

// apply has the manager read the files again; poolctl explain POOL or the hint names it.
const apply = "systemctl reload pool-managerd"

// listeners is what ss prints of the port of the pool "port".
const listeners = "ss -Hltnp 'sport = :21777'"

// without removes the lines of a pool's file that have some text.
func without(id, text string) string { return "sed -i /" + text + "/d " + host.PoolFile(id) }

// inFile replaces a text in a pool's file.
func inFile(id, from, to string) string {
	return fmt.Sprintf("sed -i 's|%s|%s|' %s", from, to, host.PoolFile(id))
}

// brokenPools are fifteen ways in which a pool is not ready, as people make them.
func brokenPools() []broken {
	const (
		absent = "/srv/absent.gguf"
		cut    = "/srv/cut.gguf"
	)
	stubFile := func(binary string) poolFile {
		p := stub()
		p.tables = []string{"[provisioning]\nbinary = \"" + binary + "\""}
		return p
	}
	onGPU := stub()
	onGPU.keys[2] = `devices = ["0"]`
	withModel := func(path string) poolFile {
		p := llama()
		p.keys[1] = `model = "file:` + path + `"`
		return p
	}
	return []broken{
		{id: "typo", file: stub().with("slotz = 2"), says: inState("invalid"),
			fix: []fixing{{"slots", inFile("typo", "slotz", "slots")}, {apply, apply}}},
		{id: "syntax", file: text("engine = \nmodel = \"file:" + host.TinyModel + "\"\ndevices = []\n"),
			says: inState("invalid"),
			fix:  []fixing{{"syntax.toml:1:", inFile("syntax", "^engine = $", `engine = "llamacpp"`)}, {apply, apply}}},
		{id: "nomodel", before: "rm -f " + absent, file: withModel(absent), says: failsWith("MODEL_NOT_FOUND"),
			fix: []fixing{{absent, "cp " + host.TinyModel + " " + absent}}},
		{id: "cutmodel", before: "head -c 1000 " + host.TinyModel + " > " + cut, file: withModel(cut),
			says: failsWith("PROVISION_FAILED"),
			fix:  []fixing{{cut, "cp " + host.TinyModel + " " + cut}}},
		{id: "digest", file: stub().with(`model_digest = "sha256:` + strings.Repeat("0", 64) + `"`),
			says: failsWith("MODEL_DIGEST_MISMATCH"),
			fix:  []fixing{{"model_digest", without("digest", "model_digest")}, {apply, apply}}},
		{id: "nobinary", file: stubFile("/usr/local/bin/absent"), says: failsWith("PROVISION_FAILED"),
			fix: []fixing{{"/usr/local/bin/absent", inFile("nobinary", "/usr/local/bin/absent", host.StubEngine)},
				{apply, apply}}},
		{id: "mode", before: "install -m 644 " + host.StubEngine + " /usr/local/bin/mode",
			file: stubFile("/usr/local/bin/mode"), says: failsWith("PROVISION_FAILED"),
			fix: []fixing{{"chmod", "chmod 755 /usr/local/bin/mode"}}},
		{id: "port", before: "systemd-run --unit=test-squatter " + host.StubEngine + " --port 21777; " +
			"until " + listeners + " | grep -q .; do sleep 0.1; done",
			file: stub().with("port = 21777"), says: failsWith("PORT_IN_USE"),
			fix: []fixing{{"ss -ltnp 'sport = :21777'", listeners},
				{"pid=", "kill $(" + listeners + " | grep -o 'pid=[0-9]*' | cut -d= -f2)"}}},
		{id: "flag", file: llama().with(`args = ["--no-such-flag"]`).table("restart", `initial = "5s"`, `max = "5s"`),
			says: failsWith("ENGINE_START_FAILED"),
			fix:  []fixing{{"--no-such-flag", without("flag", "no-such-flag")}, {apply, apply}}},
		{id: "envfile", before: "rm -f /etc/engine.env", file: stub().with(`env_file = "/etc/engine.env"`),
			says: failsWith("PROVISION_FAILED"),
			fix:  []fixing{{"/etc/engine.env", "touch /etc/engine.env"}}},
		{id: "breaker", file: stub("--crash-after", "200ms", "--say", "error: option crash-after ends this process").
			table("restart", `initial = "100ms"`, `max = "200ms"`, `jitter = 0.0`, `breaker_failures = 2`,
				`breaker_timeout = "1h"`), says: failsWith("BREAKER_OPEN"),
			fix: []fixing{{"crash-after", inFile("breaker", `"--crash-after", "200ms", `, "")}, {apply, apply}}},
		{id: "drained", file: stub().quick(), after: "poolctl drain drained --wait", says: inState("stopped"),
			fix: []fixing{{"poolctl resume drained", "poolctl resume drained"}}},
		{id: "stopped", file: stub().quick(), after: "systemctl stop 'pool-engine@stopped.r0.service'",
			says: inState("stopped"),
			fix:  []fixing{{"poolctl resume stopped", "poolctl resume stopped"}}},
		{id: "gpu", file: onGPU, says: failsWith("GPU_UNAVAILABLE"),
			fix: []fixing{{"devices = []", inFile("gpu", `\["0"\]`, "[]")}, {apply, apply}}},
		{id: "memory", file: llama().table("limits", `memory_max = "8M"`), says: failsWith("INSUFFICIENT_RAM"),
			fix: []fixing{{"memory_max", without("memory", "memory_max")}, {apply, apply}}},
	}
}

// TestFifteenBrokenPools: who has never seen the program finds by its own words why a pool is not
// ready, and fixes it, in at most three commands of which the first is poolctl explain POOL.
func TestFifteenBrokenPools(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	cases := brokenPools()
	if len(cases) != 15 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.id, func(t *testing.T) {
			h := h.in(t)
			h.breaks(c)
			words := h.explained(c)
			t.Logf("$ poolctl explain %s\n%s", c.id, words)
			if len(c.fix) > 2 {
				t.Errorf("%d commands", 1+len(c.fix))
			}
			for _, m := range c.fix {
				if !strings.Contains(words, m.clue) {
					t.Errorf("nothing leads to %s: no %q in\n%s", m.command, m.clue, words)
				}
				words += h.shell(m.command)
			}
			h.wait(c.id, isReady)
			h.removePool(c.id)
			h.reload()
		})
	}
}

// explained is what poolctl explain prints. The last log lines of an engine come a moment after its
// end: a person types no faster.
func (s *site) explained(c broken) (words string) {
	s.t.Helper()
	ctx, cancel := s.within(10 * time.Second)
	defer cancel()
	_ = host.Eventually(ctx, func(ctx context.Context) error { // what is missing is reported by the caller
		printed, err := s.Host.Run(ctx, "poolctl", "explain", c.id)
		if err != nil {
			return err
		}
		if words = printed; !strings.Contains(words, c.fix[0].clue) {
			return fmt.Errorf("no %q", c.fix[0].clue)
		}
		return nil
	})
	return words
}

// breaks makes a pool that is not ready as the case has it.
func (s *site) breaks(c broken) {
	s.t.Helper()
	if c.before != "" {
		s.shell(c.before)
	}
	s.pool(c.id, c.file)
	ctx, cancel := s.within()
	defer cancel()
	s.Reload(ctx) // which fails where the file is wrong
	if c.after != "" {
		s.wait(c.id, isReady)
		s.shell(c.after)
	}
	s.wait(c.id, c.says)
}
