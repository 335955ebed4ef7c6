package secret

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Variable is one assignment of a file of variables.
type Variable struct {
	Name  string
	Value string
	Line  int // of its name, counted from 1
}

// Fault is why a file of variables is refused. Its text repeats nothing of the file but words that
// cannot be a secret.
type Fault struct {
	Line int // 0: the file as a whole
	What string
	Hint string  // for all of them
	Also []Fault // further lines, in order
	More int     // of which so many are left out
}

func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.What
	}
	text := fmt.Sprintf("line %d %s", f.Line, f.What)
	for i := range f.Also {
		text += "; " + f.Also[i].Error()
	}
	if f.More > 0 {
		text += fmt.Sprintf("; and %d more", f.More)
	}
	return text
}

// maxFaults is how many lines of a file are named.
const maxFaults = 8

// add notes a further line; the first one is the fault itself.
func (f *Fault) add(next *Fault) *Fault {
	switch {
	case f == nil:
		return next
	case len(f.Also) == maxFaults-1:
		f.More++
		return f
	case !strings.Contains(f.Hint, next.Hint):
		f.Hint += " " + next.Hint
	}
	f.Also = append(f.Also, *next)
	return f
}

// Environment reads a file in the format of EnvironmentFile= (systemd.exec(5)). Each name is
// returned once, with its last value. The error is a *Fault, or that of the file.
func Environment(path string) ([]Variable, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return ParseEnvironment(data)
}

// ParseEnvironment returns what PID 1 takes of a file (src/basic/env-file.c of systemd 252 to 262).
// It refuses what PID 1 drops without an error, and what its releases read differently: a pool
// without its token fails much later, and far from the file.
func ParseEnvironment(data []byte) ([]Variable, error) {
	switch {
	case !utf8.Valid(data):
		return nil, &Fault{What: "is not UTF-8", Hint: "Save it as UTF-8."}
	case bytes.IndexByte(data, 0) >= 0:
		return nil, &Fault{What: "holds a NUL character", Hint: "Write it with a text editor."}
	case bytes.ContainsFunc(data, noncharacter):
		return nil, &Fault{What: "holds a code point that is no character, which PID 1 refuses",
			Hint: "Write it with a text editor."}
	case bytes.HasPrefix(data, []byte("\ufeff")):
		return nil, &Fault{Line: 1, What: "begins with a byte order mark, which would be a part of the first name",
			Hint: "Save it without one."}
	}
	s := scanner{text: string(data), line: 1}
	var fault *Fault
	for s.at < len(s.text) {
		if f := s.statement(); f != nil {
			fault = fault.add(f)
		}
	}
	if fault != nil {
		return nil, fault
	}
	return s.found, nil
}

// noncharacter reports the code points that Unicode keeps free of characters.
func noncharacter(r rune) bool { return r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe }

// scanner goes over the text once. Line ends are \n, \r, or both.
type scanner struct {
	text  string
	at    int
	line  int
	found []Variable
}

// next consumes one byte.
func (s *scanner) next() byte {
	c := s.text[s.at]
	s.at++
	if c == '\n' || c == '\r' && (s.at == len(s.text) || s.text[s.at] != '\n') {
		s.line++
	}
	return c
}

func (s *scanner) more() bool { return s.at < len(s.text) }

func isEnd(c byte) bool   { return c == '\n' || c == '\r' }
func isBlank(c byte) bool { return c == ' ' || c == '\t' || isEnd(c) }

// statement consumes white space, a comment, or an assignment, also one that is refused.
func (s *scanner) statement() *Fault {
	switch c := s.text[s.at]; {
	case isBlank(c):
		s.next()
		return nil
	case c == '#' || c == ';':
		return s.comment()
	}
	return s.assignment()
}

// comment consumes a comment line. A backslash at its end continues it before 254 and not after.
func (s *scanner) comment() *Fault {
	line, last := s.line, byte(0)
	for s.more() {
		c := s.next()
		if !isEnd(c) {
			if last == '\\' {
				c = 0 // it is escaped itself
			}
			last = c
			continue
		}
		if last == '\\' {
			return &Fault{Line: line, What: "is a comment that ends in a backslash, which continues it before " +
				"systemd 254 only", Hint: "Remove the backslash."}
		}
		return nil
	}
	return nil
}

// assignment consumes NAME=value.
func (s *scanner) assignment() *Fault {
	line, start := s.line, s.at
	for s.more() && !isEnd(s.text[s.at]) && s.text[s.at] != '=' {
		s.at++
	}
	name := strings.TrimRight(s.text[start:s.at], " \t")
	if !s.more() || isEnd(s.text[s.at]) {
		return &Fault{Line: line, What: "is no assignment: PID 1 would ignore it",
			Hint: "Write NAME=value; a line that begins with # is a comment."}
	}
	s.at++ // the sign
	value, fault := s.value(line)
	if refused := refusedName(name, line); refused != nil {
		return refused
	}
	if fault != nil {
		return fault
	}
	for i, v := range s.found {
		if v.Name == name {
			s.found[i] = Variable{name, value, line}
			return nil
		}
	}
	s.found = append(s.found, Variable{name, value, line})
	return nil
}

// refusedName is why something is no name of a variable; nil: it is one.
func refusedName(name string, line int) *Fault {
	word, _, _ := strings.Cut(name, " ")
	switch {
	case variableName(name):
		return nil
	case word == "export":
		return &Fault{Line: line, What: "begins with export, which PID 1 does not know: it would ignore the line",
			Hint: "Write NAME=value alone."}
	}
	return &Fault{Line: line, What: "assigns to something that is no name of a variable: PID 1 would ignore it",
		Hint: "Write NAME=value, with letters, digits and underscores in the name, no digit first; put a value " +
			"of several lines in quotes."}
}

// value consumes what follows the sign. Quotes are special only where a value, or what follows a
// quoted part of it, begins. White space between such parts is dropped.
func (s *scanner) value(line int) (string, *Fault) {
	var b strings.Builder
	for s.more() {
		switch c := s.next(); {
		case isEnd(c):
			return b.String(), nil
		case c == ' ' || c == '\t':
		case c == '\'' || c == '"':
			if !s.quoted(c, &b) {
				return "", &Fault{Line: line, What: "opens a quote that is not closed", Hint: "Close it."}
			}
		default:
			s.at-- // it is no line end
			s.plain(&b)
			return b.String(), nil
		}
	}
	return b.String(), nil
}

// quoted consumes a quoted part up to its end, and reports whether there is one.
func (s *scanner) quoted(quote byte, b *strings.Builder) bool {
	for s.more() {
		c := s.next()
		switch {
		case c == quote:
			return true
		case c != '\\' || quote == '\'':
			b.WriteByte(c)
		case !s.more():
			return false
		default:
			switch e := s.next(); {
			case strings.IndexByte("\"\\`$", e) >= 0:
				b.WriteByte(e)
			case e != '\n': // which continues the line
				b.WriteByte('\\')
				b.WriteByte(e)
			}
		}
	}
	return false
}

// plain consumes the rest of a value without quotes, whose white space at the end does not count
// unless a backslash is before it.
func (s *scanner) plain(b *strings.Builder) {
	keep := b.Len()
	text := b.String()
	var rest []byte
	for s.more() {
		c := s.next()
		if isEnd(c) {
			break
		}
		if c != '\\' {
			rest = append(rest, c)
			if c != ' ' && c != '\t' {
				keep = len(text) + len(rest)
			}
			continue
		}
		if s.more() {
			if e := s.next(); !isEnd(e) {
				rest = append(rest, e)
			}
		}
		keep = len(text) + len(rest)
	}
	b.Write(rest[:keep-len(text)])
}

func variableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
