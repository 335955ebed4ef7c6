package convert

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Bounds of a YAML document, aliases followed.
const (
	maxNodes = 50_000
	maxDepth = 40
)

// branch is a value of a YAML document, with aliases and merges resolved.
type branch struct {
	line  int
	text  string // of a scalar
	kind  yaml.Kind
	null  bool
	names []string // of a mapping, in order
	at    map[string]*branch
	key   map[string]int // the line of each name
	items []*branch      // of a sequence
}

// reader resolves a document within the bounds: aliases of aliases would make it endless.
type reader struct {
	name  string
	nodes int
}

// readYAML reads the one document of a file.
func readYAML(s Source) (*branch, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(s.Data, &document); err != nil {
		return nil, fmt.Errorf("%s: not valid YAML: %w", s.Name, err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, fmt.Errorf("%s: the file holds no document of YAML", s.Name)
	}
	r := reader{name: s.Name}
	return r.resolve(document.Content[0], 0)
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d:%d: %s", r.name, n.Line, n.Column, fmt.Sprintf(format, args...))
}

func (r *reader) resolve(n *yaml.Node, depth int) (*branch, error) {
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		return nil, r.fail(n, "more than %d values, or %d levels, with aliases followed", maxNodes, maxDepth)
	}
	b := &branch{line: n.Line, kind: n.Kind}
	switch n.Kind {
	case yaml.AliasNode:
		return r.resolve(n.Alias, depth+1)
	case yaml.ScalarNode:
		b.text, b.null = n.Value, n.Tag == "!!null"
	case yaml.SequenceNode:
		for _, item := range n.Content {
			v, err := r.resolve(item, depth+1)
			if err != nil {
				return nil, err
			}
			b.items = append(b.items, v)
		}
	case yaml.MappingNode:
		return b, r.mapping(b, n, depth)
	}
	return b, nil
}

// mapping fills b. A name of its own wins over a merged one.
func (r *reader) mapping(b *branch, n *yaml.Node, depth int) error {
	b.at, b.key = make(map[string]*branch), make(map[string]int)
	var merged []*branch
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			return r.fail(name, "the key of a mapping is no text")
		}
		v, err := r.resolve(value, depth+1)
		if err != nil {
			return err
		}
		if name.Tag == "!!merge" {
			merged = append(merged, append(v.items, v)...)
			continue
		}
		if _, twice := b.at[name.Value]; twice {
			return r.fail(name, "the key %q is there twice", name.Value)
		}
		b.set(name.Value, v, name.Line)
	}
	for _, from := range merged {
		for _, name := range from.names {
			if _, has := b.at[name]; !has {
				b.set(name, from.at[name], from.key[name])
			}
		}
	}
	return nil
}

func (b *branch) set(name string, v *branch, line int) {
	b.names, b.at[name], b.key[name] = append(b.names, name), v, line
}

// scalar reports whether a value is a text, a number or true or false.
func (b *branch) scalar() bool { return b.kind == yaml.ScalarNode && !b.null }

// texts returns the texts of a sequence, or of a mapping's names and texts joined by "=".
func (b *branch) texts(file string) (out []setting) {
	for _, item := range b.items {
		if item.scalar() {
			out = append(out, setting{text: item.text, at: spot{file, item.line}})
		}
	}
	for _, name := range b.names {
		if v := b.at[name]; v.scalar() {
			out = append(out, setting{text: name + "=" + v.text, at: spot{file, v.line}})
		}
	}
	return out
}
