package engine_test

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestOffloaded(t *testing.T) {
	for _, c := range []struct {
		name, kind, line string
		want             engine.Offload
	}{
		{"some", "llamacpp", "load_tensors: offloaded 10/33 layers to GPU", engine.Offload{On: 10, Of: 33}},
		{"all", "llamacpp", "0.00.951.221 I load_tensors: offloaded 33/33 layers to GPU", engine.Offload{On: 33, Of: 33}},
		{"none", "llamacpp", "llm_load_tensors: offloaded 0/33 layers to GPU", engine.Offload{Of: 33}},
		{"in_colours", "llamacpp", "\x1b[34mload_tensors: offloaded 1/2 layers to GPU\x1b[0m", engine.Offload{On: 1, Of: 2}},
		{"a_command_may_be_any_engine", "command", "load_tensors: offloaded 10/33 layers to GPU", engine.Offload{On: 10, Of: 33}},
		{"an_unknown_kind_too", "newer", "load_tensors: offloaded 10/33 layers to GPU", engine.Offload{On: 10, Of: 33}},
		{"another_engines", "vllm", "load_tensors: offloaded 10/33 layers to GPU", engine.Offload{}},
		{"quoted", "llamacpp", `prompt: "offloaded 10/33 layers to GPU"`, engine.Offload{}},
		{"of_no_layer", "llamacpp", "load_tensors: offloaded 0/0 layers to GPU", engine.Offload{}},
		{"no_number", "llamacpp", "load_tensors: offloaded 99999999999999999999/33 layers to GPU", engine.Offload{}},
		{"another_line", "llamacpp", "load_tensors: offloading output layer to GPU", engine.Offload{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := engine.Offloaded(c.kind, c.line)
			if got != c.want || ok != (c.want.Of > 0) {
				t.Errorf("= %+v %t, want %+v", got, ok, c.want)
			}
		})
	}
	for kind, want := range map[string]bool{
		"llamacpp": true, "command": true, "newer": true, "vllm": false, "triton": false,
	} {
		if engine.Offloads(kind) != want {
			t.Errorf("%s logs it: %t", kind, !want)
		}
	}
}

func TestAskedLayers(t *testing.T) {
	all := engine.AllLayers
	for _, c := range []struct {
		name, kind   string
		args         []string
		env          map[string]string
		model, draft int
	}{
		{"nothing", "llamacpp", nil, nil, all, all},
		{"a_number", "llamacpp", []string{"-ngl", "10"}, nil, 10, all},
		{"long", "llamacpp", []string{"--n-gpu-layers", "0"}, nil, 0, all},
		{"all", "llamacpp", []string{"-ngl", "all"}, nil, all, all},
		{"auto_is_no_part", "llamacpp", []string{"-ngl", "auto"}, nil, all, all},
		{"minus_one_neither", "llamacpp", []string{"-ngl", "-1"}, nil, all, all},
		{"by_the_environment", "llamacpp", nil, map[string]string{"LLAMA_ARG_N_GPU_LAYERS": "0"}, 0, all},
		{"draft", "llamacpp", []string{"-ngld", "0"}, nil, all, 0},
		{"draft_in_new_words", "llamacpp", []string{"--spec-draft-ngl", "3"}, nil, all, 3},
		{"no_device", "llamacpp", []string{"-dev", "none"}, nil, 0, all},
		{"a_device", "llamacpp", []string{"-dev", "CUDA0"}, nil, all, all},
		{"draft_without_device", "llamacpp", []string{"-devd", "none"}, nil, all, 0},
		{"of_a_command", "command", []string{"-ngl", "10"}, nil, 10, all},
		{"of_an_engine_without_layers", "vllm", []string{"-ngl", "10"}, nil, all, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := engine.AskedLayers(pool.Pool{Engine: c.kind, Args: c.args, Env: c.env})
			if got != (engine.Layers{Model: c.model, Draft: c.draft}) {
				t.Errorf("= %+v, want %d and %d", got, c.model, c.draft)
			}
		})
	}
}

func TestLayersSatisfied(t *testing.T) {
	for _, c := range []struct {
		name  string
		asked engine.Layers
		n     int
		of    engine.Offload
		want  bool
	}{
		{"whole", engine.Layers{Model: engine.AllLayers}, 0, engine.Offload{On: 33, Of: 33}, true},
		{"part", engine.Layers{Model: engine.AllLayers}, 0, engine.Offload{On: 10, Of: 33}, false},
		{"part_as_asked", engine.Layers{Model: 10}, 0, engine.Offload{On: 10, Of: 33}, true},
		{"less_than_asked", engine.Layers{Model: 11}, 0, engine.Offload{On: 10, Of: 33}, false},
		{"the_draft_has_its_own", engine.Layers{Model: engine.AllLayers}, 1, engine.Offload{Of: 17}, true},
		{"and_it_counts", engine.Layers{Draft: engine.AllLayers}, 1, engine.Offload{Of: 17}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.asked.Satisfied(c.n, c.of); got != c.want {
				t.Errorf("= %t", got)
			}
		})
	}
}
