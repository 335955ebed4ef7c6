//go:build machine

package render_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestRealLlamaServer: the adapter's command line, the sandbox and the answers that the adapter
// reads, tried on the real engine.
func TestRealLlamaServer(t *testing.T) {
	w := enter(t)
	const model = "/srv/models/tiny.gguf"
	put(t, model, "", 0o644)
	if err := tinymodel.Write(model, tinymodel.Options{}); err != nil {
		t.Fatal(err)
	}
	shell(t, "chmod 644 "+model)
	r := w.start(t, input(modelAt(model), with(func(p *pool.Pool) { p.Ctx, p.Slots = 256, 2 }),
		args("--chat-template", "{% for m in messages %}{{ m['content'] }}$;{% endfor %}", "--jinja"),
		func(in *render.Input) {
			in.Prepared.Binary = "/bin/llama-server" // the tests' own name for the stub is /usr/bin/…
		}))

	if slots, err := r.in.Adapter.Slots(ask(t, r.in, "GET", r.in.Adapter.SlotsPath(), "")); err != nil || slots != 2 {
		t.Errorf("slots: %d, %v", slots, err)
	}
	if busy, err := r.in.Adapter.Busy(ask(t, r.in, "GET", r.in.Adapter.BusyPath(), "")); err != nil || busy != 0 {
		t.Errorf("busy: %d, %v", busy, err)
	}
	if body := string(ask(t, r.in, "GET", "/slots", "")); !strings.Contains(body, `"n_ctx":256`) {
		t.Errorf("a slot has not the ctx of the pool file: %s", body)
	}
	if body := string(ask(t, r.in, "GET", "/metrics", "")); !strings.Contains(body, "llamacpp:prompt_tokens_total") {
		t.Errorf("metrics: %s", body)
	}
	if body := string(ask(t, r.in, "POST", "/completion", `{"prompt":"a","n_predict":4}`)); !strings.Contains(body,
		`"content"`) {
		t.Errorf("completion: %s", body)
	}
	if body := string(ask(t, r.in, "POST", "/apply-template",
		`{"messages":[{"role":"user","content":"hi"}]}`)); !strings.Contains(body, "hi$;") {
		t.Errorf("the chat template: %s", body)
	}
	log := shell(t, "journalctl --no-pager -o cat -u '"+r.unit.Name+"'")
	for line := range strings.Lines(log) {
		if strings.Contains(line, "not permitted") || strings.Contains(line, "denied") {
			t.Errorf("the sandbox is in the engine's way: %s", line)
		}
	}
	began := time.Now()
	shell(t, "systemctl stop '"+r.unit.Name+"'")
	if took := time.Since(began); took > r.in.Adapter.StopTimeout(r.in.Pool) {
		t.Errorf("an idle engine took %v to stop", took)
	}
	if result := strings.TrimSpace(shell(t, "systemctl show --value --property=Result '"+r.unit.Name+
		"'")); result != "success" {
		t.Errorf("a stopped engine's result is %s", result)
	}
}

// ask sends one request to the engine and returns the body of its 200.
func ask(t *testing.T, in render.Input, method, path, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, render.Endpoint(in.Port)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, out)
	}
	return out
}
