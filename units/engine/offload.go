package engine

import (
	"regexp"
	"strconv"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/pattern"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Offload is how many of a model's layers an engine has put on its GPUs.
type Offload struct{ On, Of int }

// Whole reports whether no layer is left to the CPU.
func (o Offload) Whole() bool { return o.On >= o.Of }

// Layers are how many layers of the pool's model, and of a draft model, the pool's own arguments
// have the engine put on its GPUs: AllLayers where they ask for no less.
type Layers struct{ Model, Draft int }

// Satisfied reports whether the nth model that an engine has loaded is on the GPUs as far as the
// pool asks for it. The pool's model is loaded first.
func (l Layers) Satisfied(n int, o Offload) bool {
	asked := l.Draft
	if n == 0 {
		asked = l.Model
	}
	return o.On >= min(o.Of, asked)
}

// offloading is implemented by adapters whose engine logs how much of each model it put on the GPU.
type offloading interface {
	// offloaded matches that line, with the two numbers as its groups.
	offloaded() *regexp.Regexp
	// layers reads the pool's arguments.
	layers(p pool.Pool) Layers
}

// Offloads reports whether an engine of a kind logs how many layers of a model are on its GPUs. A
// command, or an engine of an unknown kind, may be one that does.
func Offloads(kind string) bool { return len(offloadings(kind)) > 0 }

// Offloaded reads the line by which an engine of a kind logs that. A line that quotes a caller's
// text is ignored.
func Offloaded(kind, line string) (o Offload, ok bool) {
	for _, a := range offloadings(kind) {
		pattern := a.offloaded()
		if _, plain := classify.OnCPU([]classify.Fallback{{Pattern: pattern}}, line); !plain {
			continue
		}
		m := pattern.FindStringSubmatch(line)
		on, errOn := strconv.Atoi(m[1])
		of, errOf := strconv.Atoi(m[2])
		if errOn == nil && errOf == nil && of > 0 {
			return Offload{On: on, Of: of}, true
		}
	}
	return Offload{}, false
}

// OffloadGrep is the regular expression for journalctl --grep that matches every line that
// Offloaded takes.
const OffloadGrep = "offloaded [0-9]+/[0-9]+ layers"

// AskedLayers returns what the arguments of a pool ask for.
func AskedLayers(p pool.Pool) Layers {
	asked := Layers{AllLayers, AllLayers}
	for _, a := range offloadings(p.Engine) {
		l := a.layers(p)
		asked = Layers{min(asked.Model, l.Model), min(asked.Draft, l.Draft)}
	}
	return asked
}

// offloadings returns the adapters of a kind that log it, all for a kind that may be any.
func offloadings(kind string) []offloading {
	var all []offloading
	a, known := For(kind)
	every := !known || a.Weights() == Anything
	for _, other := range adapters() {
		if o, logs := other.(offloading); logs && (every || other.Kind() == kind) {
			all = append(all, o)
		}
	}
	return all
}

// llamaOffloaded is src/llama-model.cpp, load_tensors: "%s: offloaded %d/%d layers to GPU". There
// is one for each model: that of the pool, then a draft model's.
var llamaOffloaded = pattern.Lazy(`(?i)\boffloaded (\d{1,6})/(\d{1,6}) layers to GPU`)

func (llamaCpp) offloaded() *regexp.Regexp { return llamaOffloaded() }

// layers: "auto", "all" and negative numbers leave the choice to the engine, and ask for no part.
func (llamaCpp) layers(p pool.Pool) Layers {
	f := llamaCpp{}.flags(p)
	asked := func(variable string, flags ...string) int {
		if n, ok := f.integer(AllLayers, variable, flags...); ok {
			return n
		}
		return AllLayers
	}
	l := Layers{
		Model: asked("LLAMA_ARG_N_GPU_LAYERS", "-ngl", "--gpu-layers", "--n-gpu-layers"),
		Draft: min(asked("LLAMA_ARG_N_GPU_LAYERS_DRAFT", "-ngld", "--gpu-layers-draft", "--n-gpu-layers-draft"),
			asked("LLAMA_ARG_SPEC_DRAFT_N_GPU_LAYERS", "--spec-draft-ngl", "--spec-draft-n-gpu-layers")),
	}
	none := func(variable string, flags ...string) bool {
		device, _ := f.value(variable, flags...)
		return device == "none"
	}
	if none("LLAMA_ARG_DEVICE", "-dev", "--device") {
		l.Model = 0
	}
	if none("LLAMA_ARG_SPEC_DRAFT_DEVICE", "-devd", "--device-draft", "--spec-draft-device") {
		l.Draft = 0
	}
	return l
}
