package strict

import (
	"slices"
	"strings"
)

// Key is a row of a schema: one key that a file may hold. T is what the file is read into.
type Key[T any] struct {
	Path    string // dotted: "limits.memory_max"; "env.*" takes any key of the table env
	Type    Type[T]
	Default string // for the reference, as TOML writes it or in words; empty: none
	Doc     string // for the reference: what it does
}

// Type reads the values of one key.
type Type[T any] struct {
	Name    string // for the reference: "duration"
	Allowed string // what is allowed, for messages and the reference: "1s to 1h"
	Set     func(dst *T, v *Value, at At)
}

// Schema is every key of a kind of file.
type Schema[T any] struct {
	Keys []Key[T]
	// Misplaced explains keys that people write in the wrong file, by their dotted path.
	Misplaced map[string]string
	// Page is the reference that a message points to: "pool-file(5)".
	Page string
}

// Decode reads a document into dst and returns what is wrong with it. Values that are wrong leave
// dst as it was. The rules, about several keys or missing ones, are asked last, and not of a broken
// document: what they look for may stand in the part that could not be read.
func (s Schema[T]) Decode(d *Document, dst *T, rules ...func(dst *T, r *Report)) []Problem {
	r := newReport(d)
	w := &walk[T]{schema: s, dst: dst, report: r}
	w.table(d.Root, "")
	if d.Broken {
		return r.problems
	}
	for _, rule := range rules {
		rule(dst, r)
	}
	return r.problems
}

type walk[T any] struct {
	schema Schema[T]
	dst    *T
	report *Report
}

// table reads the entries of one table, whose dotted path is prefix.
func (w *walk[T]) table(t *Table, prefix string) {
	for _, e := range t.Entries() {
		if w.report.full() {
			return
		}
		path := join(prefix, e.Key)
		row, isTable := w.row(prefix, e.Key)
		at := At{report: w.report, key: path, last: e.Key, name: path, offset: e.At}
		switch {
		case row != nil:
			row.Type.Set(w.dst, e.Value, at)
		case !isTable:
			w.unknown(e, prefix, path)
		case e.Value.Kind != TableKind:
			at.Wrong(e.Value, "a table", "Write it as ["+path+"] with its keys on the lines below.")
		default:
			w.table(e.Value.Table, path)
		}
	}
}

// row returns the row of a key, or reports that the key is a table with rows in it.
func (w *walk[T]) row(prefix, key string) (row *Key[T], isTable bool) {
	path := join(prefix, key)
	for i := range w.schema.Keys {
		k := &w.schema.Keys[i]
		if k.Path == path || prefix != "" && k.Path == prefix+".*" {
			return k, false
		}
		isTable = isTable || strings.HasPrefix(k.Path, path+".")
	}
	return nil, isTable
}

func (w *walk[T]) unknown(e *Entry, prefix, path string) {
	if why, ok := w.schema.Misplaced[path]; ok {
		w.report.add(e.At, path, path+" is not allowed here", "", why)
		return
	}
	what := "no such key"
	if e.Value.Kind == TableKind {
		what = "no such table"
	}
	near := suggest(w.paths(), prefix, e.Key)
	hint := "Every key is in " + w.schema.Page + "."
	switch {
	case near == e.Key && prefix != "":
		hint = "A line below [" + prefix + "] belongs to that table: move " + near + " to the top of the file."
	case near != "":
		hint = "Did you mean " + near + "?"
	}
	w.report.add(e.At, path, what+": "+path, w.listed(prefix), hint)
}

// listed names the keys of a table, for a message.
func (w *walk[T]) listed(prefix string) string {
	var names []string
	for _, path := range w.paths() {
		rest, ok := path, true
		if prefix != "" {
			rest, ok = strings.CutPrefix(path, prefix+".")
		}
		if first, _, _ := strings.Cut(rest, "."); ok && !slices.Contains(names, first) {
			names = append(names, first)
		}
	}
	return "one of " + strings.Join(names, ", ")
}

func (w *walk[T]) paths() []string {
	paths := make([]string, len(w.schema.Keys))
	for i, k := range w.schema.Keys {
		paths[i] = k.Path
	}
	return paths
}

// Lift makes rows for a part of a larger thing: under a prefix, with get reaching the part.
func Lift[T, U any](prefix string, keys []Key[T], get func(*U) *T) []Key[U] {
	lifted := make([]Key[U], len(keys))
	for i, k := range keys {
		path := k.Path
		if prefix != "" {
			path = prefix + "." + path
		}
		set := k.Type.Set
		lifted[i] = Key[U]{
			Path: path, Default: k.Default, Doc: k.Doc,
			Type: Type[U]{Name: k.Type.Name, Allowed: k.Type.Allowed,
				Set: func(dst *U, v *Value, at At) { set(get(dst), v, at) }},
		}
	}
	return lifted
}

// ToTable reads the tables of a key that takes any name, such as "programs.*", each by its own
// keys. put takes what was read, under its name.
func ToTable[T, U any](name, allowed string, keys []Key[U], page string, start func() U,
	put func(dst *T, name string, u U)) Type[T] {
	return Type[T]{Name: name, Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		if v.Kind != TableKind {
			at.Wrong(v, allowed, "Write it as ["+at.key+"] with its keys on the lines below.")
			return
		}
		one := start()
		w := &walk[U]{schema: Schema[U]{Keys: Lift(at.key, keys, func(u *U) *U { return u }), Page: page}, dst: &one,
			report: at.report}
		w.table(v.Table, at.key)
		put(dst, at.last, one)
	}}
}
