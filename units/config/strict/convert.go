package strict

import (
	"fmt"
	"strconv"
	"strings"

	toml "github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// converter turns the parser's nodes into values. The parser reports no position for lists, so a
// cursor moves through the text along with the nodes.
type converter struct {
	builder *builder
	data    []byte
	base    int // offset of the parser's input in data
	cursor  int // behind what was converted
}

// pair converts the value of a key = value expression and puts it into a table. With a nil table it
// only reports the problems of the value.
func (c *converter) pair(t *Table, n *unstable.Node) {
	path := c.path(n)
	c.skip('=')
	name := ""
	if t != nil {
		name = t.name
	}
	for _, part := range path {
		name = join(name, part.Key)
	}
	v := c.value(n.Value(), name)
	if t != nil {
		c.builder.assign(t, path, v)
	}
}

// path returns the parts of a dotted key, without values.
func (c *converter) path(n *unstable.Node) []*Entry {
	var path []*Entry
	for it := n.Key(); it.Next(); {
		raw := it.Node().Raw
		at := c.base + int(raw.Offset)
		path = append(path, &Entry{Key: string(it.Node().Data), At: at})
		c.cursor = at + int(raw.Length)
	}
	return path
}

// value converts a node. The cursor stands before it, with nothing but blanks, line ends, commas
// and comments between, and behind it afterwards. name is the dotted key that holds the value.
func (c *converter) value(n *unstable.Node, name string) *Value {
	c.skip(',')
	v := &Value{At: c.cursor}
	switch n.Kind {
	case unstable.Array:
		v.Kind = Array
		c.cursor++
		for it := n.Children(); it.Next(); {
			v.Items = append(v.Items, c.value(it.Node(), name))
		}
		c.close()
	case unstable.InlineTable:
		v.Kind, v.Table = TableKind, &Table{name: name, origin: inline}
		c.cursor++
		for it := n.Children(); it.Next(); {
			c.pair(v.Table, it.Node())
		}
		c.close()
	default:
		v.At = c.base + int(n.Raw.Offset)
		c.cursor = v.At + int(n.Raw.Length)
		c.scalar(v, n)
	}
	return v
}

// scalar reads plain integers itself, and other numbers, truths and dates with the library's own
// decoder, which checks what the parser lets pass (underscores, ranges, the calendar).
func (c *converter) scalar(v *Value, n *unstable.Node) {
	if n.Kind == unstable.String {
		v.Kind, v.Str = String, string(n.Data)
		return
	}
	v.Raw = string(n.Data)
	if i, err := strconv.ParseInt(v.Raw, 10, 64); err == nil {
		v.Kind, v.Int = Integer, i
		return
	}
	var one struct{ V any }
	if err := toml.Unmarshal([]byte("V = "+v.Raw+"\n"), &one); err != nil {
		v.Kind, v.bad = Date, true // a kind that no key takes
		c.builder.report.add(v.At, "", fmt.Sprintf("not TOML: %s is not a valid value: %s", Quote(v.Raw),
			strings.TrimPrefix(err.Error(), "toml: ")), "", "")
		return
	}
	switch x := one.V.(type) {
	case int64:
		v.Kind, v.Int = Integer, x
	case float64:
		v.Kind, v.Float = Float, x
	case bool:
		v.Kind, v.Bool = Bool, x
	default:
		v.Kind = Date
	}
}

// skip moves the cursor over blanks, line ends, comments and the given separator.
func (c *converter) skip(separator byte) {
	for c.cursor < len(c.data) {
		switch b := c.data[c.cursor]; b {
		case ' ', '\t', '\r', '\n', separator:
			c.cursor++
		case '#':
			for c.cursor < len(c.data) && c.data[c.cursor] != '\n' {
				c.cursor++
			}
		default:
			return
		}
	}
}

// close moves the cursor behind the bracket that ends a list or an inline table.
func (c *converter) close() {
	c.skip(',')
	c.cursor = min(c.cursor+1, len(c.data))
}
