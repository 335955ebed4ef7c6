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

// TestEngineThatCannotBeAsked: a real llama-server with a key answers neither for its slots nor for
// its requests. It has one slot, and a drain waits for the deadline.
func TestEngineThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("a", poolFile{keys: append(slicesWithout(llama().keys, "slots"), `args = ["--api-key", "sk-x"]`)})
	h.reload()
	h.wait("a", isReady)
	if p := h.wait("a", isReady); p.SlotsTotal != 1 {
		t.Errorf("%d slots, want one: %s", p.SlotsTotal, p)
	}
	if out := h.must("poolctl", "status", "a"); !strings.Contains(out,
		"the engine does not report its number of slots (/props: status 401)") {
		t.Errorf("poolctl status:\n%s", out)
	}
	h.answer(201, "POST", "/v1/pools/a/leases", `{"holder":"test","ttl_ms":1000}`)
	time.Sleep(1100 * time.Millisecond)
	began := time.Now()
	out := h.shell("poolctl drain a --deadline 4s --wait 2>&1 || true")
	if took := time.Since(began); took < 4*time.Second || !strings.Contains(out, "DRAIN_TIMEOUT") {
		t.Errorf("drained after %s: %s", took, out)
	}
	h.wait("a", inState("stopped"), failsWith("DRAIN_TIMEOUT"))
}

// TestCase8: a drain of a real llama-server with a key waits for the stream that is under way. One
// that the manager cannot ask keeps its stream until the deadline, and fails then; one whose key
// the manager has ends when its stream does.
func TestCase8(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	defer h.shell("rm -rf /etc/llm")
	h.writeKey("sk-x")
	h.pool("blind", llama().with(`args = ["--api-key", "sk-x", "--context-shift"]`))
	h.pool("seen", llama().with(`args = ["--context-shift"]`, keyFile))
	h.reload()
	const deadline = 8 * time.Second
	stream := func(id, tokens, longest string) <-chan string {
		p := h.wait(id, isReady)
		answer := make(chan string, 1)
		go func() {
			ctx, cancel := h.within(3 * patience)
			defer cancel()
			out, err := h.Shell(ctx, `status=0; curl -sSN -m `+longest+` -H 'Authorization: Bearer sk-x' -d '{"prompt":"a",`+
				`"n_predict":`+tokens+`,"ignore_eos":true,"stream":true}' `+p.Replicas[0].Endpoint+
				`/completion >/root/`+id+`.out 2>&1 || status=$?; echo "status $status"; tail -n 2 /root/`+id+`.out`)
			answer <- fmt.Sprint(out, err)
		}()
		h.eventually(func(ctx context.Context) error {
			_, err := h.Shell(ctx, "grep -q content /root/"+id+".out")
			return err
		})
		return answer
	}
	// A llama-server that is stopped with a stream open takes 30 s to end: the endless one goes
	// before.
	cut, whole := stream("blind", "-1", "14"), stream("seen", "1000", "90")
	ended := make(chan string, 1)
	go func() {
		ctx, cancel := h.within(3 * patience)
		defer cancel()
		out, err := h.Host.Run(ctx, "poolctl", "drain", "seen", "--deadline", "2m", "--wait")
		ended <- fmt.Sprint(out, err)
	}()
	began := time.Now()
	out := h.shell("poolctl drain blind --deadline " + deadline.String() + " --wait 2>&1 && echo drained || :")
	if took := time.Since(began); took < deadline || !strings.Contains(out, "DRAIN_TIMEOUT") ||
		strings.Contains(out, "drained") {
		t.Errorf("after %s: %s", took, out)
	}
	if out := <-cut; strings.Contains(out, `"stop":true`) || strings.Contains(out, "status 0") {
		t.Errorf("the stream of an engine that cannot be asked: %s", out)
	}
	h.wait("blind", inState("stopped"), failsWith("DRAIN_TIMEOUT"))
	if out := <-ended; !strings.Contains(out, "<nil>") || strings.Contains(out, "DRAIN_TIMEOUT") {
		t.Errorf("the drain of an engine that is asked: %s", out)
	}
	if out := <-whole; !strings.Contains(out, "status 0") || !strings.Contains(out, `"stop":true`) {
		t.Errorf("the stream of an engine that is asked was cut: %s", out)
	}
	h.wait("seen", inState("stopped"), condition{"no error", func(p host.Pool) bool { return p.LastError == "" }})
}

// slicesWithout returns the keys of a pool file but one.
func slicesWithout(keys []string, name string) []string {
	var out []string
	for _, k := range keys {
		if !strings.HasPrefix(k, name+" ") {
			out = append(out, k)
		}
	}
	return out
}
