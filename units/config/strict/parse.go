package strict

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxProblems bounds the problems of one file: a file that is not TOML has one in each line.
const maxProblems = 100

// Parse reads a document. The problems are those of TOML itself: bytes that are not text, syntax,
// duplicate keys and tables. The document has everything that could be read.
//
// After a syntax error within one line the next line is read as if the broken one were not there;
// after one in a value over several lines nothing more is.
func Parse(file string, data []byte) (*Document, []Problem) {
	d := &Document{File: file, Root: &Table{}, lines: newLines(data)}
	r := newReport(d)
	body, ok := textOnly(d, r, data)
	if !ok {
		d.Broken = true
		return d, r.problems
	}
	b := &builder{doc: d, report: r, current: d.Root}
	for from := len(data) - len(body); from < len(data); {
		from = b.run(data, from)
	}
	d.Broken = d.Broken || len(r.problems) > 0
	return d, r.problems
}

// textOnly refuses text that is not UTF-8 and skips a byte order mark.
func textOnly(d *Document, r *Report, data []byte) ([]byte, bool) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		r.add(0, "", "the file begins with a byte order mark of UTF-16", "UTF-8",
			fmt.Sprintf("Convert it: iconv -f UTF-16 -t UTF-8 %s.", d.File))
		return nil, false
	}
	if at := invalidUTF8(data); at >= 0 {
		r.add(at, "", fmt.Sprintf("byte 0x%02x at offset %d is not UTF-8", data[at], at), "UTF-8 text",
			fmt.Sprintf("Save the file as UTF-8; iconv -f ISO-8859-1 -t UTF-8 %s converts Latin-1.", d.File))
		return nil, false
	}
	if at := bytes.IndexByte(data, 0); at >= 0 {
		r.add(at, "", fmt.Sprintf("a NUL byte at offset %d", at), "text",
			"Write the file again: it is binary, or was cut off by a crash.")
		return nil, false
	}
	if rest, found := bytes.CutPrefix(data, []byte("\xef\xbb\xbf")); found {
		r.add(0, "", "the file begins with a byte order mark", "UTF-8 without one",
			fmt.Sprintf("Remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' %s.", d.File))
		return rest, true
	}
	return data, true
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, -1 if there is none.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// builder turns the parser's expressions into the tree.
type builder struct {
	doc     *Document
	report  *Report
	current *Table // what a key is put into; nil after a broken header
}

// run reads from an offset to the end, or to a syntax error, and returns where to go on.
func (b *builder) run(data []byte, from int) (next int) {
	var p unstable.Parser
	p.Reset(data[from:])
	end := from // of the last expression that was whole
	for p.NextExpression() {
		end = b.expression(&p, data, from)
		if b.report.full() {
			return len(data)
		}
	}
	var pe *unstable.ParserError
	if !errors.As(p.Error(), &pe) {
		return len(data)
	}
	at := from + int(p.Range(pe.Highlight).Offset)
	return b.syntax(at, b.begin(data, end, end > from), pe.Message)
}

// begin returns the line on which the expression behind an offset begins; behindOne says that the
// line of the offset itself is already read.
func (b *builder) begin(data []byte, offset int, behindOne bool) int {
	l := b.doc.lines
	line := l.line(min(offset, max(len(data)-1, 0)))
	if behindOne {
		line++
	}
	for ; line < len(l.starts); line++ {
		text := bytes.TrimLeft(l.text(line), " \t\r")
		if len(text) > 0 && text[0] != '#' {
			break
		}
	}
	return line
}

// syntax reports a syntax error at an offset, in an expression that begins on a line, and returns
// where to go on: the next line, or the end where the broken value may reach further.
func (b *builder) syntax(at, begins int, message string) (next int) {
	l := b.doc.lines
	b.doc.Broken = true
	line := l.line(at)
	text := l.text(min(begins, len(l.starts)))
	hint, where := syntaxHint(message), ""
	if strings.HasPrefix(message, keywordError) {
		message = "this is not a value" // and not the nearest of true, false, inf and nan
	}
	if line > begins {
		where = fmt.Sprintf(", in what begins on line %d", begins)
	}
	b.report.add(at, "", "not TOML: "+wholeCharacter(message, l.data[min(at, len(l.data)):])+where, "", hint)
	header := bytes.HasPrefix(bytes.TrimLeft(text, " \t"), []byte("["))
	if line > begins || !header && opensBlock(text) || line >= len(l.starts) || b.report.full() {
		return len(l.data)
	}
	if header {
		b.current = nil
	}
	return l.starts[line]
}

// wholeCharacter corrects a message that names a character by its first byte.
func wholeCharacter(message string, at []byte) string {
	if c, size := utf8.DecodeRune(at); size > 1 {
		return strings.Replace(message, fmt.Sprintf("%#U", at[0]), fmt.Sprintf("%#U", c), 1)
	}
	return message
}

// opensBlock reports whether a line may begin a value of several lines.
func opensBlock(text []byte) bool {
	return bytes.Contains(text, []byte(`"""`)) || bytes.Contains(text, []byte("'''")) ||
		bytes.Count(text, []byte("[")) > bytes.Count(text, []byte("]")) ||
		bytes.Count(text, []byte("{")) > bytes.Count(text, []byte("}"))
}

// keywordError begins the parser's message where a value begins like true, false, inf or nan.
const keywordError = "expected keyword"

// syntaxHint returns a hint for the most frequent mistakes, by the beginning of the parser's
// message.
func syntaxHint(message string) string {
	for _, row := range [...]struct{ begins, hint string }{
		{"strings must be quoted", `Put the value in quotes, as "24G" or "5s".`},
		{keywordError, "Put text in quotes; only true, false and numbers need none."},
		{"unexpected character", "Put text in quotes; only true, false and numbers need none."},
		{"basic strings cannot have new lines", "Close the string with a quote on the same line."},
		{"literal strings cannot have new lines", "Close the string with a quote on the same line."},
		{"unterminated", "Close the string with a quote on the same line."},
		{"integers cannot have leading zeroes", "Remove the leading zeroes, or put the value in quotes if it is a text."},
		{"expected '=' after key", `A line is key = value, or [table].`},
		{"invalid character at start of key", `A line is key = value, or [table].`},
		{"expected newline", "One key = value on each line; a comment begins with #."},
		{"array is incomplete", "Close the list with ]."},
		{"expected ',' or ']'", "Put a comma between the items, and ] behind the last."},
		{"invalid escape character", `Write \\ for a backslash, or put the text in 'single quotes'.`},
	} {
		if strings.HasPrefix(message, row.begins) {
			return row.hint
		}
	}
	return ""
}

// expression takes one expression into the tree and returns the offset behind what it holds.
func (b *builder) expression(p *unstable.Parser, data []byte, from int) (end int) {
	c := &converter{builder: b, data: data, base: from}
	switch e := p.Expression(); e.Kind {
	case unstable.Table:
		b.header(c.path(e))
	case unstable.ArrayTable:
		b.arrayHeader(c.path(e))
	case unstable.KeyValue:
		c.pair(b.current, e)
	}
	return c.cursor
}
