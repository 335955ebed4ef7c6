package api

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// description is docs/openapi.yaml as a program reads it.
type description struct {
	doc *openapi3.T
	mux *http.ServeMux // finds an operation's path
}

// described returns the description, read once.
var described = sync.OnceValues(func() (*description, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(openapi)
	if err != nil {
		return nil, err
	}
	d := &description{doc, http.NewServeMux()}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			d.mux.HandleFunc(method+" "+path, func(http.ResponseWriter, *http.Request) {})
		}
	}
	return d, nil
})

// anywhere are statuses that the server gives before an operation sees the request; the description
// has them in its text. All are errors.
var anywhere = map[int]bool{401: true, 403: true, 404: true, 415: true, 500: true, 503: true}

// validate returns how an answer differs from the description, nil for a path that is in none.
func (d *description) validate(method, path string, status int, kind string, body []byte) error {
	_, pattern := d.mux.Handler(&http.Request{Method: method, Host: "x", URL: &url.URL{Path: path}})
	_, route, ok := strings.Cut(pattern, " ")
	if !ok || method == http.MethodHead || method == http.MethodOptions || status == http.StatusMethodNotAllowed {
		return nil
	}
	answer := d.doc.Paths.Find(route).GetOperation(method).Responses.Status(status)
	if answer == nil {
		if !anywhere[status] {
			return fmt.Errorf("the status %d is not described", status)
		}
		return visit(d.doc.Components.Schemas["Error"], body)
	}
	if len(answer.Value.Content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("there is a body, and none is described")
		}
		return nil
	}
	media, _, _ := mime.ParseMediaType(kind)
	content := answer.Value.Content[media]
	switch {
	case content == nil:
		return fmt.Errorf("the content type %q is not described", kind)
	case media == "application/json":
		return visit(content.Schema, body)
	}
	return nil
}

// visit validates a body against a schema of JSON Schema 2020-12.
func visit(schema *openapi3.SchemaRef, body []byte) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return schema.Value.VisitJSON(v, openapi3.EnableJSONSchema2020())
}

// wantDescribed checks an answer against the description.
func wantDescribed(t testing.TB, method, target string, status int, kind string, body []byte) {
	t.Helper()
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.validate(method, u.Path, status, kind, body); err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\nSchema:")
		t.Errorf("%s %s: %d %s is not as described: %s", method, target, status, body, reason)
	}
}

// TestDescriptionIsValid: the document is OpenAPI, and its examples are what its schemas describe.
// A path that is another name of a path repeats its operations, whose ids are then not unique.
func TestDescriptionIsValid(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromFile(openapi)
	if err != nil {
		t.Fatal(err)
	}
	for _, others := range aliases {
		for _, path := range others {
			doc.Paths.Delete(path)
		}
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAnswersAreCheckedAgainstTheDescription: the check that each test of this package makes finds
// an answer that is not as described.
func TestAnswersAreCheckedAgainstTheDescription(t *testing.T) {
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	const kind = "application/json"
	for _, c := range []struct {
		name, method, path string
		status             int
		kind, body         string
		ok                 bool
	}{
		{"as_described", "GET", "/health", 200, kind, `{"status":"ok","version":"1"}`, true},
		{"another_name", "GET", "/ready", 200, kind, `{"status":"ok","version":"1"}`, true},
		{"a_field_is_missing", "GET", "/health", 200, kind, `{"status":"ok"}`, false},
		{"another_constant", "GET", "/health", 200, kind, `{"status":"fine","version":"1"}`, false},
		{"another_type", "GET", "/v1/pools/a/status", 200, kind, `{"pool_id":"a","live":1}`, false},
		{"null_where_none_is", "GET", "/v1/pools", 200, kind, `{"pools":null,"problems":[]}`, false},
		{"another_word", "POST", "/v1/downloads", 202, kind, `{"model":"m","state":"odd","progress":null,"path":null,
			"pools":[],"by":null,"last_error":null,"hint":null,"changed_ms":null}`, false},
		{"another_status", "GET", "/v1/version", 201, kind, `{"api_version":"v1","version":"1"}`, false},
		{"another_content_type", "GET", "/health", 200, "text/plain", `ok`, false},
		{"an_error", "GET", "/v1/pools/a", 404, kind, `{"code":"X","message":"m","error":"m","retriable":false}`, true},
		{"half_an_error", "GET", "/v1/pools/a", 404, kind, `{"code":"X"}`, false},
		{"a_body_where_none_is", "DELETE", "/v1/pools/a/leases/l", 204, kind, `{}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := d.validate(c.method, c.path, c.status, c.kind, []byte(c.body)); (err == nil) != c.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// checkRecorded checks an answer that a test has recorded.
func checkRecorded(t testing.TB, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	wantDescribed(t, r.Method, r.URL.String(), w.Code, w.Header().Get("Content-Type"), w.Body.Bytes())
}

// TestExamples sends the example of each request in the description, and it is carried out.
func TestExamples(t *testing.T) {
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for path, item := range d.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody == nil {
				continue
			}
			t.Run(method+strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
				example, err := json.Marshal(operation.RequestBody.Value.Content["application/json"].Example)
				if err != nil || string(example) == "null" {
					t.Fatalf("there is no example (%v)", err)
				}
				a := attempt{slots: 2, kind: "application/json", body: string(example),
					who: caller{kind: callerUser, may: accessWrite}}
				for i, rt := range newServer(t, Settings{}, units{}).server.routes {
					if rt.method != method || rt.path != path {
						continue
					}
					sent++
					if status := a.make(t, i); status/100 != 2 {
						t.Errorf("%s: %d", example, status)
					}
				}
			})
		}
	}
	if sent < 10 {
		t.Errorf("only %d examples were sent", sent)
	}
}
