package api

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// yamlKeys reads the tree of keys of a YAML file that is written in plain block style: "a/b/c" for each key, by its
// indentation. What stands in flow style behind a key is its value.
func yamlKeys(t *testing.T, path string) map[string]string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^( *)"?([^\s"#-][^"]*?)"?:(?: (.*))?$`)
	keys := make(map[string]string)
	var at []string
	for line := range strings.Lines(string(body)) {
		m := key.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		depth := len(m[1]) / 2
		if depth > len(at) {
			continue // inside a block of text or a list
		}
		at = append(at[:depth], strings.ReplaceAll(m[2], "/", "|"))
		keys[strings.Join(at, "/")] = m[3]
	}
	return keys
}

func children(keys map[string]string, parent string) []string {
	var out []string
	for k := range keys {
		if rest, ok := strings.CutPrefix(k, parent+"/"); ok && !strings.Contains(rest, "/") {
			out = append(out, strings.ReplaceAll(rest, "|", "/"))
		}
	}
	slices.Sort(out)
	return out
}

// TestOpenAPI: the document and the server have the same routes, and the same fields.
func TestOpenAPI(t *testing.T) {
	doc := yamlKeys(t, filepath.Join("..", "..", "docs", "openapi.yaml"))
	t.Run("routes", func(t *testing.T) {
		var served, written []string
		for _, r := range newServer(t, Settings{}, units{}).server.routes {
			served = append(served, strings.ToLower(r.method)+" "+r.path)
		}
		for _, path := range children(doc, "paths") {
			for _, method := range children(doc, "paths/"+strings.ReplaceAll(path, "/", "|")) {
				written = append(written, method+" "+path)
			}
		}
		slices.Sort(served)
		slices.Sort(written)
		if diff := cmp.Diff(served, written); diff != "" {
			t.Errorf("routes (-served +written):\n%s", diff)
		}
	})
	for _, v := range []any{wire.Health{}, wire.PoolList{}, wire.Problem{}, wire.Pool{}, wire.Device{}, wire.Supports{},
		wire.Replica{}, wire.PoolHealth{}, wire.PoolMetrics{}, wire.PoolStatus{}, wire.Error{}} {
		kind := reflect.TypeOf(v)
		t.Run(kind.Name(), func(t *testing.T) {
			var sent []string
			for i := range kind.NumField() {
				name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
				sent = append(sent, name)
			}
			slices.Sort(sent)
			if diff := cmp.Diff(sent, children(doc, "components/schemas/"+kind.Name()+"/properties")); diff != "" {
				t.Errorf("fields (-sent +written):\n%s", diff)
			}
		})
	}
}
