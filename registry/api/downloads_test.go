package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// libraries notes what it is asked, and answers with err.
type libraries struct {
	asked string
	err   error
}

func (l *libraries) Pull(_ context.Context, model, digest, by string) (registry.Download, error) {
	l.asked = fmt.Sprintf("pull %s %s %s", model, digest, by)
	return registry.Download{Model: model, By: by, State: registry.DownloadQueued}, l.err
}

func (l *libraries) CancelPull(_ context.Context, model, by string) (registry.Download, error) {
	l.asked = fmt.Sprintf("cancel %s %s", model, by)
	return registry.Download{Model: model, State: registry.DownloadCancelled}, l.err
}

func (l *libraries) Downloads() []registry.Download {
	return []registry.Download{{Model: "hf:a/b:Q8_0", Pools: []string{"a"}, State: registry.DownloadRunning,
		Progress: &registry.Staging{Bytes: 41, Total: 100, Rate: 1},
		Failure:  registry.Fail(registry.CodeProvisionFailed, "cut", "Wait."), Changed: time.UnixMilli(5)}}
}

func (l *libraries) Models(context.Context) (wire.ModelList, error) {
	used := int64(5)
	return wire.ModelList{Models: []wire.CachedModel{{Model: "hf:a/b", Directory: "models--a--b", Bytes: 7, Files: 1,
		Digests: []string{"sha256:" + strings.Repeat("0a", 32)}, Pools: []string{"a"}, UsedMS: &used}}}, l.err
}

// Open implements Library: a file of 26 bytes, whose digest begins with 0a.
func (l *libraries) Open(_ context.Context, digest string) (*os.File, error) {
	if l.err != nil {
		return nil, l.err
	}
	if digest != aDigest {
		return nil, registry.Fail(registry.CodeModelNotFound, "not here", "Look elsewhere.")
	}
	f, err := os.CreateTemp("", "artifact")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString("abcdefghijklmnopqrstuvwxyz")
	return f, errors.Join(err, os.Remove(f.Name()))
}

var aDigest = "sha256:" + strings.Repeat("0a", 32)

// TestModels: any caller may read which models are in the cache, and a cache that cannot be read is
// no fault of the request.
func TestModels(t *testing.T) {
	h := serve(t, Settings{}, units{})
	r := h.get("/v1/models")
	if r.status != 200 || r.header.Get("ETag") == "" || len(r.json["models"].([]any)) != 1 {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	h.server.library = &libraries{err: registry.Fail(registry.CodeProvisionFailed, "no such disk", "Mount it.")}
	r = h.get("/v1/models")
	if r.status != 503 || r.json["code"] != "PROVISION_FAILED" || r.json["hint"] != "Mount it." ||
		r.json["retriable"] != true {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestDownloads: a model is asked for and cancelled by who may change pools, and what is under way
// is listed for who may see details.
func TestDownloads(t *testing.T) {
	const listed = `{"downloads":[{"model":"hf:a/b:Q8_0","state":"running","progress":{"bytes":41,"total_bytes":100,"rate_bytes_per_s":1,` +
		`"left_ms":59000,"file":null,"waits":null,"next_ms":null},"path":null,"pools":["a"],"by":null,` +
		`"last_error":"PROVISION_FAILED: cut","hint":"Wait.","changed_ms":5}]}`
	for name, c := range map[string]struct {
		method, body string
		may          access
		status       int
		says, asked  string
	}{
		"list":            {"GET", "", accessDetails, 200, listed, ""},
		"list_by_others":  {"GET", "", accessRead, 403, "FORBIDDEN", ""},
		"pull":            {"POST", `{"model":"hf:a/b","model_digest":"sha256:00"}`, accessWrite, 202, `"state":"queued"`, "pull hf:a/b sha256:00 uid:7"},
		"pull_by_readers": {"POST", `{"model":"hf:a/b"}`, accessDetails, 403, "FORBIDDEN", ""},
		"cancel":          {"POST", `{"model":"hf:a/b","cancel":true}`, accessWrite, 202, `"state":"cancelled"`, "cancel hf:a/b uid:7"},
		"cancel_a_digest": {"POST", `{"model":"hf:a/b","cancel":true,"model_digest":"x"}`, accessWrite, 400, "model_digest", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newServer(t, Settings{}, units{})
			l := &libraries{}
			h.server.library = l
			r := httptest.NewRequest(c.method, "/v1/downloads", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			for _, rt := range h.server.downloadRoutes() {
				if rt.method == c.method {
					x := &exchange{ResponseWriter: w, correlation: [1]string{"c1"},
						caller: caller{kind: callerUser, uid: 7, may: c.may}}
					h.server.guarded(rt.needs, rt.serve)(x, r)
				}
			}
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || l.asked != c.asked {
				t.Errorf("%d %s, asked %q", w.Code, w.Body, l.asked)
			}
		})
	}
}
