package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// operators notes what it is asked, and answers with err.
type operators struct {
	asked string
	err   error

	prepared wire.Prepared
	hangs    chan struct{} // where not nil: closed when a preload waits, which it does until its context ends
}

func (o *operators) Drain(_ context.Context, id string, deadline time.Duration, by string) error {
	o.asked = fmt.Sprintf("drain %s %s %s", id, deadline, by)
	return o.err
}

func (o *operators) DrainUntilRestart(_ context.Context, id string, deadline time.Duration, by string) error {
	o.asked = fmt.Sprintf("drain until restart %s %s %s", id, deadline, by)
	return o.err
}

func (o *operators) Resume(_ context.Context, id, by string) error {
	o.asked = fmt.Sprintf("resume %s %s", id, by)
	return o.err
}

func (o *operators) Restart(_ context.Context, id, by string) error {
	o.asked = fmt.Sprintf("restart %s %s", id, by)
	return o.err
}

func (o *operators) Reset(_ context.Context, id, by string) error {
	o.asked = fmt.Sprintf("reset %s %s", id, by)
	return o.err
}

func (o *operators) Reload(_ context.Context, id string, r ReloadRequest) error {
	o.asked = fmt.Sprintf("reload %s %s %s %s %t %s", id, r.Model, r.Digest, r.Deadline, r.Forget, r.By)
	return o.err
}

func (o *operators) Preload(ctx context.Context, id string, r PreloadRequest) (wire.Preloaded, error) {
	o.asked = fmt.Sprintf("preload %s %s %v %s", id, r.Prepared.BinaryPath, r.Within, r.By)
	o.prepared = r.Prepared
	if o.hangs != nil {
		close(o.hangs)
		<-ctx.Done()
		return wire.Preloaded{}, ctx.Err()
	}
	return wire.Preloaded{PoolID: id, PID: 7, HandoffPath: "/run/" + id + ".r0.json"}, o.err
}

func (o *operators) Unload(_ context.Context, id, by string) error {
	o.asked = fmt.Sprintf("unload %s %s", id, by)
	return o.err
}

func (o *operators) ReloadFiles(_ context.Context, acceptEmpty bool, by string) ([]registry.Problem, error) {
	o.asked = fmt.Sprintf("reload files %t %s", acceptEmpty, by)
	return []registry.Problem{{File: "/etc/a.toml", PoolID: "a", Text: "wrong", Hint: "Fix it."}}, o.err
}

// operated is a server with pool a, and who carries out what it is asked.
func operated(t *testing.T) (*host, *operators) {
	h := newServer(t, Settings{}, units{})
	o := &operators{}
	h.server.operator = o
	h.reg.Put(registry.Pool{ID: "a", State: registry.StateReady, Ready: true})
	return h, o
}

// post sends a request as the user with the given identity and access.
func (h *host) post(path, kind, body string, may access) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	who := caller{kind: callerUser, uid: 7, may: may}
	w := httptest.NewRecorder()
	for _, rt := range append(h.server.operatorRoutes(), h.server.leaseRoutes()...) {
		if pattern := strings.Replace(rt.path, "{id}", "a", 1); rt.method == http.MethodPost && pattern == path ||
			strings.Replace(rt.path, "{id}", "b", 1) == path {
			if parts := strings.Split(path, "/"); len(parts) > 3 {
				r.SetPathValue("id", parts[3])
			}
			h.server.guarded(rt.needs, rt.serve)(&exchange{ResponseWriter: w, correlation: [1]string{"c1"},
				caller: who}, r)
			return w
		}
	}
	h.t.Fatalf("no route %s", path)
	return nil
}

func TestOperations(t *testing.T) {
	const kind = "application/json"
	cases := []struct{ name, path, kind, body, asked string }{
		{"drain_with_the_pools_deadline", "/v1/pools/a/drain", "", "", "drain a -1ns uid:7"},
		{"drain_by_a_deadline", "/v1/pools/a/drain", kind, `{"deadline_ms":2500}`, "drain a 2.5s uid:7"},
		{"drain_now", "/v1/pools/a/drain", kind + "; charset=utf-8", `{"deadline_ms":0}`, "drain a 0s uid:7"},
		{"drain_until_restart", "/v1/pools/a/drain", kind, `{"until_restart":true}`, "drain until restart a -1ns uid:7"},
		{"resume", "/v1/pools/a/resume", "", "", "resume a uid:7"},
		{"resume_with_an_empty_object", "/v1/pools/a/resume", kind, "{}\n", "resume a uid:7"},
		{"restart", "/v1/pools/a/restart", "", "", "restart a uid:7"},
		{"reset", "/v1/pools/a/reset", "", "", "reset a uid:7"},
		{"reload", "/v1/pools/a/reload", kind, `{"new_model_ref":"file:/b","model_digest":"sha256:00","deadline_ms":1000}`, "reload a file:/b sha256:00 1s false uid:7"},
		{"reload_again", "/v1/pools/a/reload", "", "", "reload a   -1ns false uid:7"},
		{"forget", "/v1/pools/a/reload", kind, `{"forget":true}`, "reload a   -1ns true uid:7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, o := operated(t)
			w := h.post(c.path, c.kind, c.body, accessWrite)
			if w.Code != http.StatusAccepted || o.asked != c.asked {
				t.Errorf("%d, asked %q, want 202 and %q", w.Code, o.asked, c.asked)
			}
			if !strings.Contains(w.Body.String(), `"id":"a"`) {
				t.Errorf("the answer is not the pool: %s", w.Body)
			}
		})
	}
}

// TestReloadFiles: the configuration's problems are the answer.
func TestReloadFiles(t *testing.T) {
	const problem = `{"problems":[{"file":"/etc/a.toml","pool_id":"a","error":"CONFIG_INVALID: wrong","hint":"Fix it."}]}`
	for name, c := range map[string]struct {
		kind, body, asked string
		status            int
		says              string
	}{
		"no_body":       {"", "", "reload files false uid:7", 200, problem},
		"accept_empty":  {"application/json", `{"accept_empty":true}`, "reload files true uid:7", 200, problem},
		"unknown_field": {"application/json", `{"empty":true}`, "", 400, `unknown field \"empty\"`},
		"not_declared":  {"", `{"accept_empty":true}`, "", 415, "UNSUPPORTED_MEDIA_TYPE"},
	} {
		t.Run(name, func(t *testing.T) {
			h, o := operated(t)
			w := h.post("/v1/reload", c.kind, c.body, accessWrite)
			if w.Code != c.status || o.asked != c.asked || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s, asked %q; want %d, %q and %q", w.Code, w.Body, o.asked, c.status, c.says, c.asked)
			}
		})
	}
}

func TestOperationsThatAreRefused(t *testing.T) {
	const kind = "application/json"
	cases := []struct {
		name, path, kind, body string
		status                 int
		says                   string
	}{
		{"unknown_pool", "/v1/pools/b/drain", "", "", 404, "POOL_NOT_FOUND"},
		{"unknown_field", "/v1/pools/a/drain", kind, `{"deadline":5}`, 400, `unknown field \"deadline\"`},
		{"a_field_where_none_is_taken", "/v1/pools/a/resume", kind, `{"deadline_ms":5}`, 400, `unknown field \"deadline_ms\"`},
		{"wrong_type", "/v1/pools/a/drain", kind, `{"deadline_ms":"5s"}`, 400, "deadline_ms is a string; it must be a whole number"},
		{"a_fraction", "/v1/pools/a/drain", kind, `{"deadline_ms":1.5}`, 400, "deadline_ms is a number 1.5; it must be a whole number"},
		{"below_zero", "/v1/pools/a/drain", kind, `{"deadline_ms":-1}`, 400, "deadline_ms is -1; it must be 0 to 604800000"},
		{"for_ever", "/v1/pools/a/drain", kind, `{"deadline_ms":604800001}`, 400, "deadline_ms is 604800001"},
		{"no_json", "/v1/pools/a/drain", kind, `deadline`, 400, "the body is not valid JSON at byte 1"},
		{"half_a_body", "/v1/pools/a/drain", kind, `{"deadline_ms":`, 400, "the body ends inside its JSON"},
		{"two_objects", "/v1/pools/a/drain", kind, `{} {}`, 400, "unexpected data after the JSON object"},
		{"a_list", "/v1/pools/a/drain", kind, `[]`, 400, "INVALID_PARAMS"},
		{"not_declared_as_json", "/v1/pools/a/drain", "", `{"deadline_ms":5}`, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"a_form", "/v1/pools/a/drain", "application/x-www-form-urlencoded", `deadline_ms=5`, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"too_large", "/v1/pools/a/drain", kind, `{"deadline_ms":` + strings.Repeat("1", bodyLimit) + `}`, 413, "TOO_LARGE"},
		{"forget_and_a_model", "/v1/pools/a/reload", kind, `{"forget":true,"new_model_ref":"file:/b"}`, 400, "forget cannot be combined"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, o := operated(t)
			w := h.post(c.path, c.kind, c.body, accessWrite)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s, want %d and %s", w.Code, w.Body, c.status, c.says)
			}
			if o.asked != "" {
				t.Errorf("carried out all the same: %s", o.asked)
			}
		})
	}
	t.Run("a_reader", func(t *testing.T) {
		h, o := operated(t)
		if w := h.post("/v1/pools/a/drain", "", "", accessRead); w.Code != http.StatusForbidden || o.asked != "" {
			t.Errorf("%d, asked %q", w.Code, o.asked)
		}
	})
	for code, status := range map[registry.Code]int{
		registry.CodeReloadInProgress: 409, registry.CodeStateNotSaved: 503, registry.CodePoolNotFound: 404,
		registry.CodeInvalidParams: 400, registry.CodePolicyDenied: 403, registry.CodeConfigInvalid: 409,
	} {
		t.Run("failure/"+strings.ToLower(string(code)), func(t *testing.T) {
			h, o := operated(t)
			o.err = registry.Fail(code, "no", "do this")
			if w := h.post("/v1/pools/a/reload", "", "", accessWrite); w.Code != status ||
				!strings.Contains(w.Body.String(), string(code)) {
				t.Errorf("%d %s, want %d", w.Code, w.Body, status)
			}
		})
	}
}

// FuzzDecode: any body is either taken or refused with a remedy's code, and never a defect.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"deadline_ms":5}`))
	f.Add([]byte(`{"new_model_ref":null}`))
	f.Fuzz(mutate.Many(func(t *testing.T, body []byte) {
		var into struct {
			NewModelRef string `json:"new_model_ref"`
			DeadlineMS  *int64 `json:"deadline_ms"`
		}
		if err := decodeStrict(body, &into); err != nil {
			e := asError(err)
			if e.Status != http.StatusBadRequest || e.Body.Code != "INVALID_PARAMS" || e.Body.Message == "" {
				t.Errorf("%q: %+v", body, e)
			}
		}
	}))
}
