package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestYAMLIsTheJSON: with -o yaml each command prints the values that -o json has.
func TestYAMLIsTheJSON(t *testing.T) {
	h := newHost(t)
	h.fillGPUs()
	for _, line := range []string{"list", "status gemma", "devices", "render gemma", "version", "explain phi", "explain",
		"explain CUDA_OOM", "check --config /none.toml --pools-dir testdata", "models --config /none.toml --pools-dir /none",
		"import ../../packaging/systemd/pool-managerd.service", "resume gemma"} {
		t.Run(strings.NewReplacer(" ", "_", "/", "_").Replace(line), func(t *testing.T) {
			words := strings.Fields(line)
			asJSON, asYAML := h.run(append(words, "-o", "json")...), h.run(append(words, "-o", "yaml")...)
			if asJSON.code != asYAML.code || asJSON.errOut != asYAML.errOut {
				t.Fatalf("json: %d %s\nyaml: %d %s", asJSON.code, asJSON.errOut, asYAML.code, asYAML.errOut)
			}
			want, got := decodeAll(t, asJSON.out, jsonDecoder), decodeAll(t, asYAML.out, yamlDecoder)
			if len(want) == 0 {
				t.Errorf("no JSON: %s", asJSON.errOut)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-json +yaml\n%s", diff)
			}
		})
	}
}

func jsonDecoder(text string) func(any) error { return json.NewDecoder(strings.NewReader(text)).Decode }
func yamlDecoder(text string) func(any) error { return yaml.NewDecoder(strings.NewReader(text)).Decode }

// decodeAll reads each document, and returns it as JSON has it.
func decodeAll(t *testing.T, text string, decoder func(string) func(any) error) (documents []any) {
	t.Helper()
	decode := decoder(text)
	for {
		var v any
		if decode(&v) != nil {
			return documents
		}
		same, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var again any
		if err := json.Unmarshal(same, &again); err != nil {
			t.Fatal(err)
		}
		documents = append(documents, again)
	}
}

// TestYAMLWriter: texts that look like other values stay texts, controls are not printed, and what
// is written in pieces is one document.
func TestYAMLWriter(t *testing.T) {
	var out bytes.Buffer
	w := &yamlWriter{to: &out}
	for _, piece := range []string{`{"true":"no","a":"1","text":"x\ny","li`, `st":[],"esc":"\u001b\u202e","n":12345678901234567890}`,
		"\n\n", `{"second":[{"id":1}]}`} {
		if _, err := w.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.ContainsAny(text, "\x1b\u202e") || strings.Count(text, "---\n") != 1 {
		t.Errorf("%q", text)
	}
	var first map[string]any
	if err := yaml.Unmarshal(out.Bytes(), &first); err != nil || first["true"] != "no" || first["a"] != "1" ||
		first["text"] != "x\ny" || first["n"] != uint64(12345678901234567890) {
		t.Errorf("%v %v\n%s", err, first, text)
	}
	if _, err := w.Write([]byte("no JSON: [\n")); err == nil {
		t.Error("what is no JSON was accepted")
	}
}
