package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// yamlWriter turns each line of JSON into a document of YAML with the same keys in the same order.
// What is no whole line yet is kept.
type yamlWriter struct {
	to      io.Writer
	rest    []byte
	written bool // a document was
}

func (w *yamlWriter) Write(p []byte) (int, error) { return eachLine(&w.rest, p, w.document) }

// flush writes what has no line break at its end.
func (w *yamlWriter) flush() error {
	line := w.rest
	w.rest = nil
	return w.document(line)
}

func (w *yamlWriter) document(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	var n yaml.Node
	if err := yaml.Unmarshal(line, &n); err != nil { // JSON is YAML
		return fmt.Errorf("could not write the answer as YAML: %w", err)
	}
	inBlocks(&n)
	var b bytes.Buffer
	if w.written {
		b.WriteString("---\n")
	}
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return fmt.Errorf("could not write the answer as YAML: %w", err)
	}
	w.written = true
	_, err := cleaner{w.to}.Write(b.Bytes())
	return err
}

// bareName is a key that needs no quotes: no word of YAML itself is in an answer.
var bareName = regexp.MustCompile(`^[a-z][a-z0-9]*(?:_[a-z0-9]+)+$|^[a-z]{4,}$|^id$|^pid$`)

// inBlocks gives a document the form that people read. Texts stay in quotes, so that "1" is no
// number.
func inBlocks(n *yaml.Node) {
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		if len(n.Content) > 0 {
			n.Style = 0
		}
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if bareName.MatchString(child.Value) && !yamlWord[child.Value] {
				child.Style = 0
			}
			continue
		}
		inBlocks(child)
	}
}

// yamlWord are the words of four letters and more that mean true, false or nothing.
var yamlWord = map[string]bool{"true": true, "false": true, "null": true}
