package strict

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is the type of a TOML value.
type Kind int

// The kinds of values. Dates and times are one kind: no key takes them.
const (
	String Kind = iota + 1
	Integer
	Float
	Bool
	Date
	Array
	TableKind
)

// Value is one value of a document.
type Value struct {
	Kind  Kind
	At    int // offset in the file, in bytes
	Str   string
	Int   int64
	Float float64
	Bool  bool
	Raw   string // a truth, number or date as written
	Items []*Value
	Table *Table

	tables bool // an array made by [[headers]]
	bad    bool // reported already
}

// Entry is a key with its value.
type Entry struct {
	Key   string
	At    int // offset of the key, in bytes
	Value *Value
}

// Table is an ordered set of entries.
type Table struct {
	name    string // dotted path from the root
	entries []*Entry
	byKey   map[string]*Entry
	origin  origin
}

// origin is how a table was defined, which decides what may still be added to it.
type origin int

const (
	implied origin = iota // a parent in a [header]
	headed                // by its own [header]
	dotted                // a parent in a dotted key
	inline                // { … }
)

// Entries returns the entries in the order of the file.
func (t *Table) Entries() []*Entry { return t.entries }

// Get returns the entry of key, nil where there is none.
func (t *Table) Get(key string) *Entry { return t.byKey[key] }

// child returns a new table for a key of this one, not yet put into it.
func (t *Table) child(key string, from origin) *Table {
	return &Table{name: join(t.name, key), origin: from}
}

func (t *Table) put(e *Entry) {
	if t.byKey == nil {
		t.byKey = make(map[string]*Entry)
	}
	t.byKey[e.Key] = e
	t.entries = append(t.entries, e)
}

// Document is a file as it was read.
type Document struct {
	File string
	Root *Table
	// Broken reports whether a part of the file could not be parsed, so that a key that is not in
	// the tree may still be in the file.
	Broken bool

	lines *lines
}

// Place returns line and column, both from 1, of an offset; the column counts characters.
func (d *Document) Place(offset int) (line, column int) { return d.lines.place(offset) }

// PlaceOf returns line and column of the value of the first of some dotted keys in the file, zeroes
// if none is. "args[3]" is an item of a list.
func (d *Document) PlaceOf(keys ...string) (line, column int) {
	for _, key := range keys {
		list, index, found := strings.Cut(strings.TrimSuffix(key, "]"), "[")
		if n, err := strconv.Atoi(index); found && err == nil {
			if v := d.Find(strings.Split(list, ".")...); v != nil && n >= 0 && n < len(v.Items) {
				return d.Place(v.Items[n].At)
			}
			continue
		}
		if v := d.Find(strings.Split(key, ".")...); v != nil {
			return d.Place(v.At)
		}
	}
	return 0, 0
}

// Find returns the value at a dotted path of plain keys, nil where there is none.
func (d *Document) Find(path ...string) *Value {
	v := &Value{Kind: TableKind, Table: d.Root}
	for _, key := range path {
		if v.Kind != TableKind {
			return nil
		}
		e := v.Table.Get(key)
		if e == nil {
			return nil
		}
		v = e.Value
	}
	return v
}

// maxShown bounds the part of a value that a message shows, in bytes.
const maxShown = 60

// Describe names a value in a message: `0`, `"two"`, `a list`.
func (v *Value) Describe() string {
	switch v.Kind {
	case String:
		return Quote(v.Str)
	case Integer, Float:
		return cut(v.Raw)
	case Bool:
		return strconv.FormatBool(v.Bool)
	case Date:
		return "the date or time " + cut(v.Raw)
	case Array:
		if v.tables {
			return "a list of tables"
		}
		return "a list"
	case TableKind:
		return "a table"
	}
	return "nothing"
}

// typed names the type of a value: "the string", "the integer", ….
func (v *Value) typed() string {
	switch v.Kind {
	case String:
		return "the string " + v.Describe()
	case Integer:
		return "the integer " + v.Describe()
	case Float:
		return "the number " + v.Describe()
	}
	return v.Describe()
}

// Quote returns s in quotes for a message, with control characters escaped and a long text cut.
func Quote(s string) string {
	if shown := cut(s); shown != s {
		return strconv.Quote(s[:len(shown)-len(ellipsis)]) + fmt.Sprintf("%s (%d bytes)", ellipsis, len(s))
	}
	return strconv.Quote(s)
}

const ellipsis = "…"

// cut shortens a text for a message, between characters.
func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	end := maxShown
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// FormatDuration prints a duration as a person would write it in a file: 5m, not 5m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if len(s) > len(zero) && s[len(s)-len(zero):] == zero {
			s = s[:len(s)-2]
		}
	}
	return s
}

// lines turns byte offsets into lines and columns.
type lines struct {
	data   []byte
	starts []int
}

func newLines(data []byte) *lines {
	l := &lines{data: data, starts: []int{0}}
	for i, c := range data {
		if c == '\n' {
			l.starts = append(l.starts, i+1)
		}
	}
	return l
}

func (l *lines) line(offset int) int {
	return sort.Search(len(l.starts), func(i int) bool { return l.starts[i] > offset })
}

// text returns a line, counted from 1, without its end.
func (l *lines) text(line int) []byte {
	end := len(l.data)
	if line < len(l.starts) {
		end = l.starts[line] - 1
	}
	return l.data[l.starts[line-1]:end]
}

func (l *lines) place(offset int) (line, column int) {
	line = l.line(offset)
	return line, utf8.RuneCount(l.data[l.starts[line-1]:offset]) + 1
}
