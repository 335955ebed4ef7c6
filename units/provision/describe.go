package provision

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gguf"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/regular"
)

// maxDescription bounds a file in JSON that describes a model; those of known models have at most
// some ten kilobytes, with the template of conversations some hundred.
const maxDescription = 4 << 20

// maxDescribed bounds a text that is taken from a model's files.
const maxDescribed = 64

// descriptions remembers what models say of themselves, by what their files are: a header can take
// megabytes to read.
type descriptions struct {
	mu sync.Mutex
	of map[string]describedModel // by the path
}

type describedModel struct {
	contents string
	model    pool.Description
}

// get describes a model, unless it did so for the same contents. Where these are not known it reads
// the files each time.
func (d *descriptions) get(ctx context.Context, m model, contents string) pool.Description {
	d.mu.Lock()
	known, ok := d.of[m.path]
	d.mu.Unlock()
	if ok && contents != "" && known.contents == contents {
		return known.model
	}
	found := describe(ctx, m)
	if ctx.Err() != nil {
		return pool.Description{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = make(map[string]describedModel)
	}
	d.of[m.path] = describedModel{contents, found}
	return found
}

// describe reads what the files of a model say of it. What cannot be read is left out: an engine
// decides whether it can load a model, not its description.
func describe(ctx context.Context, m model) pool.Description {
	if info, err := os.Stat(m.path); err == nil && info.IsDir() {
		return describeDirectory(m.path)
	}
	var all pool.Description
	for i, f := range m.files {
		header, _, err := gguf.Open(ctx, f.path)
		if err != nil {
			return pool.Description{}
		}
		part := header.Describe()
		all.Parameters += part.Elements
		if i == 0 {
			all.Architecture, all.Quantization = described(part.Architecture), part.Quantization
			all.CtxTrained, all.ChatTemplate = int(min(part.Trained, maxCtx)), part.ChatTemplate
			all.Workload = workload(part.Embedding, part.Rank)
		}
	}
	return all
}

// maxCtx bounds a context that is believed, in tokens.
const maxCtx = 1 << 30

// described is a text of a model's file: one short word, or nothing.
func described(text string) string {
	if len(text) > maxDescribed || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return text
}

func workload(embedding, rank bool) string {
	switch {
	case rank:
		return engine.WorkRerank
	case embedding:
		return engine.WorkEmbedding
	}
	return engine.WorkCompletion
}

// describeDirectory reads config.json, as transformers writes it beside the weights.
func describeDirectory(dir string) pool.Description {
	var config struct {
		Architectures []string        `json:"architectures"`
		DType         string          `json:"torch_dtype"`
		NewDType      string          `json:"dtype"` // the same, from transformers 5 on
		Positions     json.RawMessage `json:"max_position_embeddings"`
		Quantized     struct {
			Method string `json:"quant_method"`
		} `json:"quantization_config"`
	}
	if !readJSON(filepath.Join(dir, "config.json"), &config) {
		return pool.Description{}
	}
	var m pool.Description
	if len(config.Architectures) > 0 {
		m.Architecture = described(config.Architectures[0])
	}
	var positions int
	if json.Unmarshal(config.Positions, &positions) == nil && positions > 0 {
		m.CtxTrained = min(positions, maxCtx)
	}
	dtype := described(config.NewDType)
	if dtype == "" {
		dtype = described(config.DType)
	}
	if m.Quantization = described(config.Quantized.Method); m.Quantization == "" {
		m.Quantization = dtypes[dtype]
	}
	m.Workload = workload(!generates(m.Architecture), strings.HasSuffix(m.Architecture, "ForSequenceClassification"))
	m.ChatTemplate = hasTemplate(dir)
	m.Parameters = parameters(dir)
	return m
}

// dtypes are the names of torch's types in capabilities.
var dtypes = map[string]string{"bfloat16": "BF16", "float16": "F16", "float32": "F32"}

// generates reports whether a class of transformers makes text.
func generates(architecture string) bool {
	return slices.ContainsFunc([]string{"ForCausalLM", "ForConditionalGeneration", "LMHeadModel", ""},
		func(end string) bool { return end == architecture || end != "" && strings.HasSuffix(architecture, end) })
}

// hasTemplate reports whether a model brings a template of conversations: a file of its own, or a
// key of the tokenizer's.
func hasTemplate(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "chat_template.jinja")); err == nil {
		return true
	}
	var tokenizer struct {
		Template json.RawMessage `json:"chat_template"`
	}
	return readJSON(filepath.Join(dir, "tokenizer_config.json"), &tokenizer) &&
		len(tokenizer.Template) > 0 && string(tokenizer.Template) != "null"
}

// parameters is what the index of a model in parts says of its weights; 0 where it does not.
func parameters(dir string) uint64 {
	var index struct {
		Metadata struct {
			Parameters uint64 `json:"total_parameters"`
		} `json:"metadata"`
	}
	readJSON(filepath.Join(dir, "model.safetensors.index.json"), &index)
	return index.Metadata.Parameters
}

// readJSON reads a small file, and reports whether that worked.
func readJSON(path string, into any) bool {
	f, _, err := regular.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDescription+1))
	return err == nil && len(text) <= maxDescription && json.Unmarshal(text, into) == nil
}
