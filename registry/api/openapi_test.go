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

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

var openapi = filepath.Join("..", "..", "docs", "openapi.yaml")

// yamlKeys reads the tree of keys of a YAML file that is written in plain block style: "a/b/c" for
// each key, by its indentation. Text in flow style after a key is its value.
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

// required reads a schema's list of fields that are always there. It is in flow style, over
// several lines.
func required(t *testing.T, schema string) []string {
	t.Helper()
	body, err := os.ReadFile(openapi)
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(body), "\n    "+schema+":\n")
	if !found {
		t.Fatalf("%s has no schema %s", openapi, schema)
	}
	text, _, _ = strings.Cut(text, "      properties:\n")
	_, text, found = strings.Cut(text, "      required: [")
	if !found {
		return nil
	}
	text, _, _ = strings.Cut(text, "]")
	names := strings.Fields(strings.ReplaceAll(text, ",", " "))
	slices.Sort(names)
	return names
}

// methods are those of a path, which may be an alias: a JSON pointer to another one.
func methods(doc map[string]string, path string) []string {
	key := "paths/" + strings.ReplaceAll(path, "/", "|")
	if to, alias := doc[key+"/$ref"]; alias {
		pointed := strings.ReplaceAll(strings.Trim(to, `"`), "~1", "|")
		key = strings.TrimPrefix(pointed, "#/")
	}
	return children(doc, key)
}

// TestOpenAPI: the document and the server have the same routes, and the same fields.
func TestOpenAPI(t *testing.T) {
	doc := yamlKeys(t, openapi)
	t.Run("routes", func(t *testing.T) {
		var served, written []string
		for _, r := range newServer(t, Settings{}, units{}).server.routes {
			served = append(served, strings.ToLower(r.method)+" "+strings.TrimSuffix(r.path, "{$}"))
		}
		for _, path := range children(doc, "paths") {
			for _, method := range methods(doc, path) {
				written = append(written, method+" "+path)
			}
		}
		slices.Sort(served)
		slices.Sort(written)
		if diff := cmp.Diff(served, written); diff != "" {
			t.Errorf("routes (-served +written):\n%s", diff)
		}
	})
	t.Run("states", func(t *testing.T) {
		var names []string
		for _, s := range registry.States() {
			names = append(names, string(s))
		}
		if got, want := doc["components/schemas/State/enum"], "["+strings.Join(names, ", ")+"]"; got != want {
			t.Errorf("the states are %s, want %s", got, want)
		}
	})
	for _, v := range []any{wire.Health{}, wire.Version{}, wire.Access{}, wire.History{}, wire.HistoryPoint{}, wire.StateChange{}, wire.Capabilities{}, wire.EngineCapability{}, wire.PoolList{}, wire.Problem{}, wire.Pool{}, wire.Operation{}, wire.Drain{}, wire.Override{}, wire.Reload{}, wire.DrainRequest{}, wire.Event{}, wire.Gap{}, wire.LeaseRequest{}, wire.RenewRequest{}, wire.Lease{}, wire.LeaseList{}, wire.ReloadRequest{}, wire.PreloadRequest{}, wire.Prepared{}, wire.Preloaded{}, wire.FilesRequest{}, wire.Files{}, wire.PullRequest{}, wire.Download{}, wire.DownloadList{}, wire.Device{}, wire.Supports{}, wire.Model{}, wire.Performance{}, wire.BenchRequest{}, wire.Bench{}, wire.BenchRun{}, wire.BenchReplica{}, wire.BenchResult{}, wire.BenchFigures{},
		wire.Replica{}, wire.Ending{}, wire.PoolHealth{}, wire.PoolMetrics{}, wire.PoolStatus{}, wire.Error{}, wire.DeviceList{}, wire.Driver{}, wire.Stale{},
		wire.GPUDevice{}, wire.ECC{}, wire.RowRemap{}, wire.MIGPartition{}, wire.GPUProcess{}, wire.FleetPools{}, wire.FleetHost{}, wire.FleetGPU{}, wire.FleetPool{}, wire.FleetReplica{}, wire.FleetConflict{}, wire.FleetModels{}, wire.FleetModel{}, wire.ModelList{}, wire.CachedModel{}, wire.Usage{}, wire.PoolUsage{}, wire.ReplicaUsage{}} {
		kind := reflect.TypeOf(v)
		t.Run(kind.Name(), func(t *testing.T) {
			var sent, always []string
			for _, f := range reflect.VisibleFields(kind) {
				if f.Anonymous {
					continue // its fields are listed too
				}
				name, omit, _ := strings.Cut(f.Tag.Get("json"), ",")
				sent = append(sent, name)
				if omit == "" {
					always = append(always, name)
				}
			}
			slices.Sort(sent)
			slices.Sort(always)
			if diff := cmp.Diff(sent, children(doc, "components/schemas/"+kind.Name()+"/properties")); diff != "" {
				t.Errorf("fields (-sent +written):\n%s", diff)
			}
			if diff := cmp.Diff(always, required(t, kind.Name())); diff != "" {
				t.Errorf("required (-always sent +written):\n%s", diff)
			}
		})
	}
}
