package main

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

func TestModelLine(t *testing.T) {
	architecture, quantization, embedding, completion := "llama", "Q4_K_M", "embedding", "completion"
	parameters, ctx := uint64(8_030_261_312), 131072
	for _, c := range []struct {
		name, want string
		m          wire.Model
	}{
		{"nothing", "", wire.Model{}},
		{"all", "llama, Q4_K_M, 8.0 B parameters, trained for 131072 tokens, made for embedding",
			wire.Model{Architecture: &architecture, Quantization: &quantization, Parameters: &parameters, CtxTrained: &ctx,
				Workload: &embedding}},
		{"completion_goes_without_saying", "Q4_K_M", wire.Model{Quantization: &quantization, Workload: &completion}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := modelLine(c.m); got != c.want {
				t.Errorf("= %q, want %q", got, c.want)
			}
		})
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1.0 k", 127_552: "127.6 k", 520_000_000: "520.0 M",
		70_553_706_496: "70.6 B"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestBase(t *testing.T) {
	for ref, want := range map[string]string{
		"file:/srv/models/a.gguf": "a.gguf", "hf:acme/tiny:Q8_0": "tiny:Q8_0", "hf:acme/tiny": "tiny",
		"hf:acme/tiny@main/sub/a.gguf": "a.gguf", "oci:registry.test/models/a:v1": "a:v1",
		"https://host.test/a.gguf": "a.gguf", "": "",
	} {
		if got := base(&ref); got != want {
			t.Errorf("%q: %q, want %q", ref, got, want)
		}
	}
	if got := base(nil); got != "" {
		t.Errorf("of no model: %q", got)
	}
}
