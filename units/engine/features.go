package engine

import (
	"maps"
	"slices"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Features of an engine with its model, as the API lists them.
const (
	FeatureChat        = "chat_template" // the model, or the pool, has a form of conversations
	FeatureVision      = "vision"        // images are read by a projector
	FeatureLoRA        = "lora"          // requests may choose an adapter of the weights
	FeatureSpeculative = "speculative"   // a smaller model proposes tokens
)

// featured is implemented by adapters whose options switch features on.
type featured interface {
	// featureFlags returns, for each feature, the variable and the flags that switch it on.
	featureFlags() map[string]featureFlag
	flags(p pool.Pool) flagSet
}

// featureFlag is what switches a feature on: one of these with a value, or alone.
type featureFlag struct {
	variables []string
	flags     []string
}

// Features returns what an engine of a pool can do with its model, sorted: what the model brings
// along, and what the pool's options switch on.
func Features(p pool.Pool, m pool.Description) []string {
	var all []string
	if m.ChatTemplate {
		all = append(all, FeatureChat)
	}
	a, _ := For(p.Engine)
	if f, ok := a.(featured); ok {
		set, switched := f.flags(p), f.featureFlags()
		for _, name := range slices.Sorted(maps.Keys(switched)) {
			if set.switches(switched[name]) {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// switches reports whether one of the flags or variables is given.
func (f flagSet) switches(by featureFlag) bool {
	_, given := f.value("", by.flags...)
	return given || slices.ContainsFunc(by.variables, func(v string) bool { return f.env[v] != "" })
}

func (llamaCpp) flags(p pool.Pool) flagSet {
	return flagSet{args: p.Args, env: p.Variables(), syntax: llamaSyntax}
}

func (llamaCpp) featureFlags() map[string]featureFlag {
	return map[string]featureFlag{
		FeatureChat: {[]string{"LLAMA_ARG_CHAT_TEMPLATE", "LLAMA_ARG_CHAT_TEMPLATE_FILE"},
			[]string{"--chat-template", "--chat-template-file"}},
		FeatureVision: {[]string{"LLAMA_ARG_MMPROJ"}, []string{"-mm", "--mmproj"}},
		FeatureLoRA:   {nil, []string{"--lora", "--lora-scaled"}},
		FeatureSpeculative: {[]string{"LLAMA_ARG_MODEL_DRAFT", "LLAMA_ARG_SPEC_DRAFT_MODEL"},
			[]string{"-md", "--model-draft", "--spec-draft-model"}},
	}
}

// detecting is implemented by adapters whose engine decides by the model what it serves, where its
// options do not.
type detecting interface {
	detects(p pool.Pool) bool
}

// Offered returns what an engine of a pool can be asked for with its model; nil: not known.
func Offered(p pool.Pool, m pool.Description) []string {
	a, ok := For(p.Engine)
	if !ok {
		return nil
	}
	if d, ok := a.(detecting); ok && m.Workload != "" && d.detects(p) {
		return []string{m.Workload}
	}
	return a.Workloads(p)
}

func (vllm) flags(p pool.Pool) flagSet {
	return flagSet{args: p.Args, env: p.Variables(), syntax: vllmSyntax}
}

func (v vllm) detects(p pool.Pool) bool {
	return !v.flags(p).switches(featureFlag{flags: []string{"--task", "--convert", "--runner"}})
}

func (vllm) featureFlags() map[string]featureFlag {
	return map[string]featureFlag{
		FeatureChat:        {flags: []string{"--chat-template"}},
		FeatureLoRA:        {flags: []string{"--enable-lora", "--lora-modules"}},
		FeatureSpeculative: {flags: []string{"--speculative-config", "--speculative-model"}},
	}
}

func (sglang) flags(p pool.Pool) flagSet {
	return flagSet{args: p.Args, env: p.Variables(), syntax: sglangSyntax}
}

func (sglang) featureFlags() map[string]featureFlag {
	return map[string]featureFlag{
		FeatureChat:        {flags: []string{"--chat-template"}},
		FeatureLoRA:        {flags: []string{"--enable-lora", "--lora-paths"}},
		FeatureSpeculative: {flags: []string{"--speculative-algorithm"}},
	}
}
