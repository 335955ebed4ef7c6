package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// attempt is one way to make a request, of every route.
type attempt struct {
	name   string
	who    caller
	pool   string // in the path; empty: a
	lease  string // in the path; empty: one that is held, "lost": one that was
	kind   string // Content-Type
	body   string
	query  string
	header http.Header
	slots  int   // of the pool's replica, one of them in use; 0: it does not serve
	drains bool  // the pool takes no new work
	fails  error // of the code that carries out what operators ask for, and of the rendering
	full   bool  // leases cannot be written down
}

// attempts are the conditions that routes distinguish.
func attempts() []attempt {
	const kind = "application/json"
	all := caller{kind: callerUser, may: accessWrite}
	list := []attempt{
		{name: "plain", slots: 2},
		{name: "stopped"},
		{name: "draining", slots: 2, drains: true},
		{name: "every_slot_taken", slots: 1},
		{name: "unknown_pool", slots: 2, pool: "b"},
		{name: "unknown_lease", slots: 2, lease: "l-none"},
		{name: "lost_lease", slots: 2, lease: "lost"},
		{name: "leases_not_saved", slots: 2, full: true},
		{name: "reader", slots: 2, who: caller{kind: callerUser, uid: 7, may: accessRead}},
		{name: "no_token", slots: 2, who: caller{kind: callerLocal}},
		{name: "no_json", slots: 2, kind: kind, body: "{"},
		{name: "unknown_field", slots: 2, kind: kind, body: `{"x":1}`},
		{name: "not_declared", slots: 2, body: `{}`},
		{name: "another_type", slots: 2, kind: "text/plain", body: `{}`},
		{name: "too_long", slots: 2, kind: kind, body: strings.Repeat(" ", bodyLimit+1)},
		{name: "unknown_parameter", slots: 2, query: "?waits=1s"},
		{name: "wait", slots: 2, query: "?wait=10ms"},
		{name: "accept_encoding", slots: 2, header: http.Header{"Accept-Encoding": {"nonsense;q=1, *;q=0"}}},
		{name: "conditional", slots: 2, header: http.Header{"If-None-Match": {"*"}, "Range": {"bytes=0-3"}}},
		{name: "last_event", slots: 2, header: http.Header{"Last-Event-Id": {"nonsense"}}},
		{name: "late", slots: 2, fails: context.DeadlineExceeded},
	}
	for _, code := range []registry.Code{registry.CodeInvalidParams, registry.CodePoolNotFound, registry.CodePolicyDenied,
		registry.CodeStateNotSaved, registry.CodeConfigInvalid, registry.CodeReloadInProgress, registry.CodeProvisionFailed,
		registry.CodeEngineCrashed, registry.CodeEngineStartTimeout, registry.CodeFleetNotConfigured,
		registry.CodeFleetUnavailable} {
		list = append(list, attempt{name: string(code), slots: 2, fails: registry.Fail(code, "m", "h")})
	}
	for i := range list {
		switch list[i].who.kind {
		case callerAnonymous:
			list[i].who = all
		case callerLocal:
			list[i].who = caller{kind: callerAnonymous}
		}
	}
	return list
}

// TestStatuses makes each request of the table of routes in each of these ways. A status that is
// served is in the description, and one that is described can be served.
func TestStatuses(t *testing.T) {
	doc := yamlKeys(t, openapi)
	served := make(map[string]map[string]string) // by operation and status: an attempt that got it
	for _, a := range attempts() {
		t.Run(a.name, func(t *testing.T) {
			for i, rt := range newServer(t, Settings{}, units{}).server.routes {
				operation := strings.ToLower(rt.method) + " " + strings.TrimSuffix(rt.path, "{$}")
				if a.cannot(operation) {
					continue
				}
				status := strconv.Itoa(a.make(t, i))
				if served[operation] == nil {
					served[operation] = make(map[string]string)
				}
				served[operation][status] = a.name
			}
		})
	}
	for _, operation := range slices.Sorted(maps.Keys(served)) {
		method, path, _ := strings.Cut(operation, " ")
		described := statusesOf(doc, method, path)
		for status, by := range served[operation] {
			if !slices.Contains(described, status) {
				t.Errorf("%s answers %s (%s), which is not described", operation, status, by)
			}
		}
		for _, status := range described {
			_, seen := served[operation][status]
			if why := elsewhere[operation+" "+status]; !seen && why == "" {
				t.Errorf("%s is described to answer %s, and never does", operation, status)
			}
		}
	}
}

// cannot reports whether what the attempt is about never happens to an operation.
func (a attempt) cannot(operation string) bool {
	var f *registry.Failure
	if !errors.As(a.fails, &f) {
		return false
	}
	switch operation {
	case "post /v1/reload": // its problems are an answer, and no failure
		return true
	case "post /v1/downloads": // it is about no pool
		return f.Code == registry.CodePoolNotFound
	case "get /v1/artifacts/{digest}": // it is about the cache alone
		return f.Code != registry.CodePolicyDenied
	case "get /v1/models": // it changes nothing, and is about the cache alone
		return f.Code != registry.CodeProvisionFailed
	case "get /v1/fleet/pools", "get /v1/fleet/models": // it is about no pool of this host, and changes nothing
		return f.Code != registry.CodeFleetNotConfigured && f.Code != registry.CodeFleetUnavailable
	case "get /v1/pools/{id}/unit": // it takes no parameters, and any caller may read it
		return f.Code == registry.CodeInvalidParams || f.Code == registry.CodePolicyDenied
	}
	return false
}

// elsewhere are the statuses that another test provokes.
var elsewhere = map[string]string{
	"get /v1/artifacts/{digest} 206":  "TestArtifacts",
	"get /v1/artifacts/{digest} 416":  "TestArtifacts",
	"get /v1/artifacts/{digest} 404":  "TestArtifacts",
	"get /v1/events 429":              "TestEvents",
	"post /v1/pools/{id}/preload 429": "TestEvents",
	"post /pools/{id}/preload 429":    "TestEvents",
	"post /v2/pools/{id}/preload 429": "TestEvents",
	"post /v1/pools/{id}/drain 422":   "TestOperationsWithAKey",
	"post /pools/{id}/drain 422":      "TestOperationsWithAKey",
	"post /v2/pools/{id}/drain 422":   "TestOperationsWithAKey",
	"post /v1/pools/{id}/resume 422":  "TestOperationsWithAKey",
	"post /v1/pools/{id}/restart 422": "TestOperationsWithAKey",
	"post /v1/pools/{id}/reset 422":   "TestOperationsWithAKey",
	"post /v1/pools/{id}/reload 422":  "TestOperationsWithAKey",
	"post /pools/{id}/reload 422":     "TestOperationsWithAKey",
	"post /v2/pools/{id}/reload 422":  "TestOperationsWithAKey",
	"post /v1/pools/{id}/leases 422":  "TestLeasesWithAKey",
	"post /v1/pools/{id}/bench 422":   "TestBenchWithAKey",
	"post /v1/pools/{id}/bench 200":   "TestBench",
	"delete /v1/pools/{id} 200":       "TestWait",
	"delete /pools/{id} 200":          "TestWait",
	"delete /v2/pools/{id} 200":       "TestWait",
	"post /v1/pools/{id}/reload 200":  "TestWait",
	"post /pools/{id}/reload 200":     "TestWait",
	"post /v2/pools/{id}/reload 200":  "TestWait",
	"post /v1/pools/{id}/resume 200":  "TestWait",
	"post /v1/pools/{id}/restart 200": "TestWait",
	"post /v1/pools/{id}/reset 200":   "TestWait",
	"post /v1/downloads 200":          "TestWaitOfADownload",
	"get /page/{file} 404":            "TestNoSuchThing",
	"get /metrics 503":                "registry/metrics: TestHandler",
}

// statusesOf are the statuses that the description has of an operation, by its own path or that of
// which it is an alias.
func statusesOf(doc map[string]string, method, path string) []string {
	key := "paths/" + strings.ReplaceAll(path, "/", "|")
	if to, alias := doc[key+"/$ref"]; alias {
		key = strings.TrimPrefix(strings.ReplaceAll(strings.Trim(to, `"`), "~1", "|"), "#/")
	}
	return children(doc, key+"/"+method+"/responses")
}

// make makes a request of a route, by its place in the table, of a server of its own, and returns
// the status.
func (a attempt) make(t *testing.T, at int) int {
	t.Helper()
	h := newServer(t, Settings{}, failing{a.fails})
	rt := h.server.routes[at]
	h.server.operator, h.server.library = &operators{err: a.fails}, &libraries{err: a.fails}
	h.server.bench, h.server.fleet = &benches{}, &fleets{a.fails}
	if f := registry.AsFailure(a.fails, "", ""); f != nil && f.Code == registry.CodeEngineCrashed {
		h.server.bench = &benches{err: f}
	}
	h.reg.Put(registry.Pool{ID: "a", State: registry.StateStopped})
	id, pool := h.held(t, a), a.pool
	if pool == "" {
		pool = "a"
	}
	path := strings.NewReplacer("{digest}", aDigest, "{id}", pool, "{lease}", id, "{$}", "").Replace(rt.path)
	if a.body == "" && strings.HasSuffix(rt.path, "/preload") { // which has no default
		a.body, a.kind = `{"prepared":{"binary_path":"/usr/bin/x"}}`, "application/json"
	}
	if a.body == "" && rt.method == http.MethodPost && strings.HasSuffix(rt.path, "/downloads") {
		a.body, a.kind = `{"model":"hf:org/name"}`, "application/json"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // ends a stream of events
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, rt.method, path+a.query, strings.NewReader(a.body))
	maps.Copy(r.Header, a.header)
	if a.kind != "" {
		r.Header.Set("Content-Type", a.kind)
	}
	r.SetPathValue("digest", aDigest)
	r.SetPathValue("id", pool)
	r.SetPathValue("lease", id)
	r.SetPathValue("file", "main.js")
	w := httptest.NewRecorder()
	x := &exchange{ResponseWriter: w, correlation: [1]string{"c1"}, caller: a.who}
	h.server.guarded(rt.needs, rt.serve)(x, r)
	if w.Code == http.StatusInternalServerError {
		t.Errorf("%s %s: %s", rt.method, rt.path, w.Body)
	}
	checkRecorded(t, r, w)
	return w.Code
}

// held is the id of the lease in the attempt's path, which is held unless the attempt is about
// another one.
func (h *host) held(t *testing.T, a attempt) string {
	t.Helper()
	store := &memory{}
	book, err := lease.Open(store, func() lease.Moment { return lease.Moment(time.Now().UnixNano()) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.runBook(t, book)
	open := lease.Pool{Seats: []lease.Seat{{Replica: "r0", Run: "run", Slots: max(a.slots, 1), Open: true}}}
	h.book.SetPool("a", open, nil)
	l, err := h.book.Acquire(t.Context(), lease.Ask{Pool: "a", Holder: "me", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if a.lease == "lost" {
		h.book.Cut("a", "r0", "a deadline")
	}
	if a.slots == 0 {
		open.Seats = nil
	}
	open.Draining = a.drains
	h.book.SetPool("a", open, func(string) string { return "the engine ended" })
	if a.full {
		store.fails(nil)
	}
	if a.lease == "l-none" {
		return a.lease
	}
	return l.ID
}

// failing renders no unit.
type failing struct{ err error }

func (f failing) RenderUnit(context.Context, string) (string, error) {
	return "[Unit]", f.err
}

// TestUncleanPaths: a path with // or .. in it is no path of the API, and leads nowhere.
func TestUncleanPaths(t *testing.T) {
	h := serve(t, Settings{}, units{})
	for _, path := range []string{"//v1/pools", "/v1//pools", "/v1/./pools", "/v1/pools/../pools", "/v1/pools/"} {
		for _, method := range []string{"GET", "POST"} {
			if r := h.send(method, "http://localhost"+path, ""); r.status != 404 || r.header.Get("Location") != "" ||
				r.json["code"] == nil {
				t.Errorf("%s %s: %d %v %s", method, path, r.status, r.header, r.body)
			}
		}
	}
}
