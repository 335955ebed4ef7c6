package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
)

// The values of a template are looked up in the answer's JSON. This is the part of JSONPath that
// people use: names, indices, slices, *, .. and filters with one comparison, and kubectl's range
// and end.

// node is a part of a template: a text, a path, or a path whose values the parts of body are for.
type node struct {
	text string
	path []stepper
	body []node
	loop bool
}

// stepper is one step of a path: from some values to those below them.
type stepper func(from []any) ([]any, error)

// pathWriter turns each line of JSON into what a template makes of it. What is no whole line yet is
// kept.
type pathWriter struct {
	to       io.Writer
	template []node
	rest     []byte
}

func (w *pathWriter) Write(p []byte) (int, error) { return eachLine(&w.rest, p, w.document) }

// flush writes what has no line break at its end.
func (w *pathWriter) flush() error {
	line := w.rest
	w.rest = nil
	return w.document(line)
}

func (w *pathWriter) document(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber() // 2^53+1 stays what it is
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("could not read the answer as JSON: %w", err)
	}
	var b strings.Builder
	if err := fill(&b, w.template, v); err != nil {
		return err
	}
	out := safe.Text(b.String())
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	_, err := io.WriteString(w.to, out)
	return err
}

// fill writes what a template makes of a value.
func fill(b *strings.Builder, template []node, v any) error {
	for _, n := range template {
		if n.path == nil && !n.loop {
			b.WriteString(n.text)
			continue
		}
		values := []any{v}
		for _, step := range n.path {
			var err error
			if values, err = step(values); err != nil {
				return fmt.Errorf("{%s}: %w", n.text, err)
			}
		}
		for i, each := range values {
			switch {
			case n.loop:
				if err := fill(b, n.body, each); err != nil {
					return err
				}
				continue
			case i > 0:
				b.WriteByte(' ')
			}
			b.WriteString(plainValue(each))
		}
	}
	return nil
}

// plainValue is a value as a script wants it: a string without quotes and on one line.
func plainValue(v any) string {
	switch v := v.(type) {
	case string:
		return clean(v)
	case json.Number:
		return v.String()
	case nil:
		return ""
	}
	out, err := json.Marshal(v)
	if err != nil {
		return "" // it was JSON before
	}
	return clean(string(out))
}

// field is the step to a name. It is an error if none of some values has it.
func field(name string) stepper {
	return func(from []any) ([]any, error) {
		var out []any
		known := make(map[string]bool)
		for _, v := range from {
			object, ok := v.(map[string]any)
			if !ok {
				continue
			}
			if value, has := object[name]; has {
				out = append(out, value)
			}
			for key := range maps.Keys(object) {
				known[key] = true
			}
		}
		if len(out) > 0 || len(from) == 0 {
			return out, nil
		}
		err := fmt.Errorf("the answer has no %q there", name)
		if near := nearest(name, slices.Sorted(maps.Keys(known))); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		}
		return nil, err
	}
}

// children is the step to all members.
func children(from []any) ([]any, error) {
	var out []any
	for _, v := range from {
		out = append(out, membersOf(v)...)
	}
	return out, nil
}

// membersOf are those of a list, or of an object in the order of their names.
func membersOf(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		out := make([]any, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out = append(out, v[key])
		}
		return out
	}
	return nil
}

// descendants is the step to the values of a name at any depth.
func descendants(name string) stepper {
	var below func(v any) []any
	below = func(v any) (out []any) {
		if object, ok := v.(map[string]any); ok {
			if value, has := object[name]; has {
				out = append(out, value)
			}
		}
		for _, member := range membersOf(v) {
			out = append(out, below(member)...)
		}
		return out
	}
	return func(from []any) ([]any, error) {
		var out []any
		for _, v := range from {
			out = append(out, below(v)...)
		}
		return out, nil
	}
}

// elements is the step to those of a list from one index up to another, which is not among them;
// negative ones count from the end.
func elements(from, to *int) stepper {
	at := func(i *int, otherwise, n int) int {
		switch {
		case i == nil:
			return otherwise
		case *i < 0:
			return max(n+*i, 0)
		}
		return min(*i, n)
	}
	return func(values []any) ([]any, error) {
		var out []any
		for _, v := range values {
			if list, ok := v.([]any); ok {
				a, b := at(from, 0, len(list)), at(to, len(list), len(list))
				out = append(out, list[min(a, b):b]...)
			}
		}
		return out, nil
	}
}

// element is the step to one of a list; one that is not there is an error.
func element(i int) stepper {
	return func(values []any) ([]any, error) {
		var out []any
		for _, v := range values {
			list, ok := v.([]any)
			n := i
			if n < 0 {
				n += len(list)
			}
			switch {
			case !ok:
				return nil, fmt.Errorf("there is no list at [%d]", i)
			case n < 0 || n >= len(list):
				return nil, fmt.Errorf("there is no element [%d]: the list has %d", i, len(list))
			}
			out = append(out, list[n])
		}
		return out, nil
	}
}

// where is the step to the members for which a comparison holds; without an operator, to those that
// have the path.
func where(path []stepper, op, want string) stepper {
	holds := func(member any) bool {
		values := []any{member}
		for _, step := range path {
			var err error
			if values, err = step(values); err != nil {
				return false // it has none
			}
		}
		for _, v := range values {
			if op == "" || compared(plainValue(v), op, want) {
				return true
			}
		}
		return false
	}
	return func(from []any) ([]any, error) {
		all, _ := children(from)
		return slices.DeleteFunc(slices.Clone(all), func(v any) bool { return !holds(v) }), nil
	}
}

// compared compares numbers where both are, else texts.
func compared(have, op, want string) bool {
	order := strings.Compare(have, want)
	x, errX := strconv.ParseFloat(have, 64)
	y, errY := strconv.ParseFloat(want, 64)
	if errX == nil && errY == nil {
		switch {
		case x < y:
			order = -1
		case x > y:
			order = 1
		default:
			order = 0
		}
	}
	switch op {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}
