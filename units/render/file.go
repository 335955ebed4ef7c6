package render

import (
	"slices"
	"strings"
)

// commentWidth is the width of comments, in characters.
const commentWidth = 100

// File returns the unit as an administrator would write it: a unit file with a comment above each
// line. It passes systemd-analyze verify and behaves like the transient unit. The units of its port
// follow, if it has any.
func (u Unit) File() string {
	var b strings.Builder
	b.WriteString("# " + u.Name + ", as pool-managerd asks PID 1 to run it (spec " + u.SpecHash + ").\n")
	comment(&b, "To run it without the manager: stop the pool, save this as /etc/systemd/system/NAME.service with a "+
		"name that "+
		"does not begin with \"pool-engine@\", then systemctl daemon-reload and systemctl start NAME.service. "+
		"For a lasting change of the pool's own unit, change the pool file instead.")
	u.sections(&b)
	if u.Port != nil {
		for _, of := range []Unit{u.Port.Socket, u.Port.Service} {
			b.WriteString("\n# " + of.Name + ", of its port.\n")
			of.sections(&b)
		}
	}
	return b.String()
}

// sections writes the sections that have rows.
func (u Unit) sections(b *strings.Builder) {
	for _, section := range []string{sectionUnit, sectionService, sectionSocket} {
		if slices.ContainsFunc(u.Lines, func(l Line) bool { return l.Section == section }) {
			b.WriteString("\n[" + section + "]\n")
			u.section(b, section)
		}
	}
}

// section writes the rows of one section. A comment is not repeated for rows with the same one.
func (u Unit) section(b *strings.Builder, section string) {
	last := ""
	for _, line := range u.Lines {
		if line.Section != section {
			continue
		}
		if line.Key == "" {
			comment(b, "Over D-Bus only, "+line.Property.Name+": "+line.Why)
			continue
		}
		if line.Why != "" && line.Why != last {
			comment(b, line.Why)
		}
		last = line.Why
		b.WriteString(line.Key + "=" + line.Text + "\n")
	}
}

// comment writes a text as comment lines.
func comment(b *strings.Builder, text string) {
	column := 0
	for i, w := range strings.Fields(text) {
		switch {
		case i == 0:
			b.WriteString("# " + w)
			column = 2 + len(w)
		case column+1+len(w) > commentWidth:
			b.WriteString("\n# " + w)
			column = 2 + len(w)
		default:
			b.WriteString(" " + w)
			column += 1 + len(w)
		}
	}
	b.WriteByte('\n')
}
