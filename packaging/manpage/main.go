// Command manpage writes a page of the documentation as a manual page, for the package: the same
// tables, so that man -K finds each code, state and metric.
//
//	manpage NAME SECTION TITLE <page.md >page.7
//
// It owns the translation of the part of Markdown that these pages use. It must not know what they
// say.
package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: manpage NAME SECTION TITLE <page.md >page")
		os.Exit(2)
	}
	body, err := io.ReadAll(os.Stdin)
	if err == nil {
		_, err = io.WriteString(os.Stdout, manual(os.Args[1], os.Args[2], os.Args[3], string(body)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manpage:", err)
		os.Exit(1)
	}
}

// page is a manual page that is being written.
type page struct {
	out  strings.Builder
	text []string // lines of the paragraph or item
	head []string // of the table
}

// manual translates a page. The dates of manual pages are left out: the same source gives the same
// bytes.
func manual(name, section, title, markdown string) string {
	p := &page{}
	fmt.Fprintf(&p.out, ".TH %s %s \"\" \"pool-managerd\"\n.nh\n.ad l\n.SH NAME\n%s \\- %s\n.SH DESCRIPTION\n",
		strings.ToUpper(name), section, name, escaped(title))
	for block := range strings.SplitSeq(markdown, "\n\n") {
		p.block(strings.Trim(block, "\n"))
	}
	fmt.Fprintf(&p.out, ".SH SEE ALSO\n.BR poolctl (1),\n.BR pool\\-file (5),\n.BR pool\\-managerd (8),\n"+
		"/usr/share/doc/pool-managerd\n")
	return p.out.String()
}

// block is what stands between empty lines.
func (p *page) block(block string) {
	lines := strings.Split(block, "\n")
	switch {
	case block == "" || strings.HasPrefix(block, "<!--") && !strings.Contains(block, "\n"):
		return
	case indented(lines):
		p.out.WriteString(".PP\n.RS\n.nf\n")
		for _, line := range lines {
			p.line(guarded(escaped(strings.TrimPrefix(line, "    "))))
		}
		p.out.WriteString(".fi\n.RE\n")
		return
	}
	for _, line := range lines {
		p.markdown(line)
	}
	p.flush()
	p.head = nil
}

func indented(lines []string) bool {
	return !slices.ContainsFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "    ") })
}

var item = regexp.MustCompile(`^(?:[-*]|[0-9]+\.) `)

// markdown is a line of a block.
func (p *page) markdown(line string) {
	switch {
	case strings.HasPrefix(line, "<!--"):
	case strings.HasPrefix(line, "# "): // the name has it
	case strings.HasPrefix(line, "## "):
		p.flush()
		p.line(".SH " + strings.ToUpper(inline(line[3:])))
	case strings.HasPrefix(line, "###"):
		p.flush()
		p.line(".SS " + inline(strings.TrimLeft(line, "# ")))
	case strings.HasPrefix(line, "|"):
		p.flush()
		p.row(cells(line))
	case item.MatchString(line):
		p.flush()
		sign := strings.Fields(line)[0]
		if sign == "-" || sign == "*" {
			sign = `\(bu`
		}
		p.line(".IP " + sign + " 3")
		p.text = []string{strings.TrimSpace(line[strings.IndexByte(line, ' '):])}
	default:
		if len(p.text) == 0 {
			p.line(".PP")
		}
		p.text = append(p.text, strings.TrimSpace(line))
	}
}

// flush ends a paragraph.
func (p *page) flush() {
	if len(p.text) > 0 {
		p.line(inline(strings.Join(p.text, " ")))
	}
	p.text = nil
}

func (p *page) line(line string) { p.out.WriteString(line + "\n") }

var rule = regexp.MustCompile(`^:?-+:?$`)

// row is one of a table: an entry named by the cell that is a name alone, else by the first, and
// below it the others with the heads of their columns. A terminal is too narrow for the table.
func (p *page) row(row []string) {
	switch {
	case p.head == nil:
		p.head = row
		return
	case rule.MatchString(row[0]):
		return
	}
	entry := max(slices.IndexFunc(row, func(c string) bool { return nameAlone.MatchString(c) }), 0)
	p.line(".TP\n" + inline(row[entry]))
	for i, c := range row {
		if i == entry || c == "" {
			continue
		}
		if i < len(p.head) && p.head[i] != "" {
			c = "*" + p.head[i] + "*: " + c
		}
		p.line(inline(c))
		p.line(".br")
	}
}

var nameAlone = regexp.MustCompile("^`[^`]+`$")

// cells are those of a row; a bar behind a backslash is text.
func cells(line string) []string {
	line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|")
	row := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
	for i := range row {
		row[i] = strings.TrimSpace(strings.ReplaceAll(row[i], "\x00", "|"))
	}
	return row
}

// marked are the parts of a text that have a form of their own: code, bold, italic, links.
var marked = regexp.MustCompile("``(.+?)``|`([^`]*)`|\\*\\*(.+?)\\*\\*|\\*([^*\\s][^*]*)\\*|" +
	"\\[([^\\]]*)\\]\\(([^)]*)\\)")

// inline translates a text of one line.
func inline(text string) string {
	var b strings.Builder
	for text != "" {
		m := marked.FindStringSubmatchIndex(text)
		if m == nil {
			b.WriteString(plain(text))
			break
		}
		b.WriteString(plain(text[:m[0]]))
		group := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return text[m[2*i]:m[2*i+1]]
		}
		switch {
		case m[2] >= 0:
			b.WriteString(`\fB` + escaped(strings.TrimSpace(group(1))) + `\fP`)
		case m[4] >= 0:
			b.WriteString(`\fB` + escaped(group(2)) + `\fP`)
		case m[6] >= 0:
			b.WriteString(`\fB` + unmarked(group(3)) + `\fP`)
		case m[8] >= 0:
			b.WriteString(`\fI` + unmarked(group(4)) + `\fP`)
		default:
			b.WriteString(unmarked(group(5)) + linked(group(5), group(6)))
		}
		text = text[m[1]:]
	}
	return guarded(b.String())
}

// linked is where a link leads: the name of an installed page, unless its text is that.
func linked(text, target string) string {
	file, _, _ := strings.Cut(target, "#")
	if file == "" || strings.Contains(text, file) {
		return ""
	}
	return " (" + escaped(file) + ")"
}

// unmarked is a text within bold or italic: code in it has no form of its own.
func unmarked(text string) string { return plain(strings.ReplaceAll(text, "`", "")) }

// plain is text outside of code, where a backslash before a sign of Markdown is none.
func plain(text string) string {
	return escaped(regexp.MustCompile(`\\([*_|<>#\[\]])`).ReplaceAllString(text, "$1"))
}

// escaped is text as roff takes it literally.
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`).Replace(text)
}

// guarded is a line of text that is no request of roff, whatever it begins with.
func guarded(text string) string {
	if text != "" && strings.ContainsRune(".'", rune(text[0])) {
		return `\&` + text
	}
	return text
}
