package api

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestDetailsAreForReadersOfTheJournal: another user sees the code and a sentence of a failure, and
// nothing that an engine or a file wrote, on every path that reads, in any order of callers.
func TestDetailsAreForReadersOfTheJournal(t *testing.T) {
	h := openToAll(t, Settings{})
	p := registrytest.Llama()
	f := registry.Fail(registry.CodeEngineCrashed, "exited with status 1; last log line: quoted-text",
		"Look at quoted-text.")
	f.Ending = &registry.Ending{Result: "exit-code", ExitStatus: 1, Lines: []string{"quoted-text"}}
	p.LastError, p.Ready = f, false
	p.Replicas[0].LastError = f
	h.reg.Put(p)
	h.reg.SetProblems([]registry.Problem{{File: "x.toml", Text: "x.toml:1:1: quoted-text", Hint: "quoted-text"}})
	h.reg.Note(registry.Event{Kind: registry.KindCrash, PoolID: p.ID, Cause: f.Message, Failure: f})
	d := asUser(t.Context(), t, 61300, "unix", h.socket)
	other := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) }}}
	for _, path := range []string{"/v1/pools", "/v1/pools/" + p.ID, "/v1/pools/" + p.ID + "/health",
		"/v1/events?replay=true&follow=false"} {
		for range 2 { // the second time from what is kept encoded
			if r := h.get(path); r.status != 200 || !strings.Contains(r.body, "quoted-text") {
				t.Errorf("root, %s: %d %s", path, r.status, r.body)
			}
			r := h.do(other, http.MethodGet, "http://socket"+path)
			if r.status != 200 || strings.Contains(r.body, "quoted-text") ||
				!strings.Contains(r.body, "ENGINE_CRASHED: the engine ended with an error") {
				t.Errorf("another user, %s: %d %s", path, r.status, r.body)
			}
		}
	}
	t.Run("a_stream_that_goes_on", func(t *testing.T) {
		c, err := d.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
		r := bufio.NewReader(c)
		until(t, r, ": pool-managerd")
		h.reg.Note(registry.Event{Kind: registry.KindCrash, PoolID: p.ID, Cause: f.Message, Failure: f})
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data: ") {
				if strings.Contains(line, "quoted-text") {
					t.Error(line)
				}
				return
			}
		}
	})
}
