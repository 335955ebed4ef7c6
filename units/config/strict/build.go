package strict

import "fmt"

// The rules here are those of the TOML specification, sections "Table", "Inline Table" and "Array
// of Tables": a table is defined once, and an inline table is closed.

// header opens a [table]. After an invalid header, the keys under it belong to no table.
func (b *builder) header(path []*Entry) {
	parent, last := b.parent(path)
	b.current = nil
	if parent == nil {
		return
	}
	switch e := parent.Get(last.Key); {
	case e == nil:
		b.current = parent.child(last.Key, headed)
		last.Value = &Value{Kind: TableKind, At: last.At, Table: b.current}
		parent.put(last)
	case e.Value.Kind == TableKind && e.Value.Table.origin == implied:
		b.current = e.Value.Table
		b.current.origin = headed
	default:
		b.twice(parent, last, e)
	}
}

// arrayHeader opens one more table of a [[list]].
func (b *builder) arrayHeader(path []*Entry) {
	parent, last := b.parent(path)
	b.current = nil
	if parent == nil {
		return
	}
	e := parent.Get(last.Key)
	if e == nil {
		last.Value = &Value{Kind: Array, At: last.At, tables: true}
		parent.put(last)
		e = last
	}
	if !e.Value.tables {
		b.twice(parent, last, e)
		return
	}
	b.current = parent.child(last.Key, headed)
	e.Value.Items = append(e.Value.Items, &Value{Kind: TableKind, At: last.At, Table: b.current})
}

// parent returns the last part of a header's path and the table that it belongs to, making those
// that are only implied; nil, with a problem, where a part is no table.
func (b *builder) parent(path []*Entry) (t *Table, last *Entry) {
	t, last = b.doc.Root, path[len(path)-1]
	for _, part := range path[:len(path)-1] {
		e := t.Get(part.Key)
		if e == nil {
			e = part
			e.Value = &Value{Kind: TableKind, At: part.At, Table: t.child(part.Key, implied)}
			t.put(e)
		}
		next := e.Value
		if next.tables {
			next = next.Items[len(next.Items)-1]
		}
		if next.Kind != TableKind || next.Table.origin == inline {
			b.twice(t, part, e)
			return nil, nil
		}
		t = next.Table
	}
	return t, last
}

// assign puts a value at a path inside a table: key = value, or a.b = value.
func (b *builder) assign(t *Table, path []*Entry, v *Value) {
	for _, part := range path[:len(path)-1] {
		e := t.Get(part.Key)
		if e == nil {
			e = part
			e.Value = &Value{Kind: TableKind, At: part.At, Table: t.child(part.Key, dotted)}
			t.put(e)
		} else if e.Value.Kind != TableKind || e.Value.Table.origin != dotted {
			b.twice(t, part, e)
			return
		}
		t = e.Value.Table
	}
	last := path[len(path)-1]
	if first := t.Get(last.Key); first != nil {
		b.twice(t, last, first)
		return
	}
	last.Value = v
	t.put(last)
}

// twice reports a duplicate key.
func (b *builder) twice(t *Table, again, first *Entry) {
	if b.report.full() {
		return
	}
	line, column := b.doc.Place(first.At)
	key := join(t.name, again.Key)
	b.report.add(again.At, key, fmt.Sprintf("%s is given a second time; the first is in line %d, column %d", key, line,
		column),
		"", "Keep one of the two, with all keys of a table in one place.")
}
