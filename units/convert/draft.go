package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/lastwords"
)

// entry is a key of a pool file.
type entry struct {
	table, name string
	value       string // in TOML
	why         string // a comment over it
}

// group is an option among the arguments, with its values.
type group struct{ words []string }

// draft is a pool file that is being written.
type draft struct {
	from     *launch
	id       string
	adapter  engine.Adapter
	entries  []entry
	args     []group
	envFiles []string
	devices  []string
	notes    []Note
}

// order is that of keys and tables in a pool file.
var order = []string{"engine", "model", "devices", "shared", "tensor_split", "ctx", "slots", "port", "args",
	"api_key_file", "env_file", "writable"}

var tables = []string{"", "env", "provisioning", "limits", "health", "restart", "drain", "sandbox"}

func (d *draft) set(table, name, value, why string) {
	d.remove(table, name)
	d.entries = append(d.entries, entry{table, name, value, plain(why)})
}

func (d *draft) remove(table, name string) {
	d.entries = slices.DeleteFunc(d.entries, func(e entry) bool { return e.table == table && e.name == name })
}

func (d *draft) get(name string) string {
	for _, e := range d.entries {
		if e.table == "" && e.name == name {
			return e.value
		}
	}
	return ""
}

// page is a pool file as text, with what each of its lines belongs to.
type page struct {
	text   strings.Builder
	lines  int
	owners map[int]owner
}

// owner is an entry or, with an index of at least 0, a group of arguments or a file of variables.
type owner struct {
	table, name string
	index       int
}

func (p *page) line(o *owner, text string) {
	p.lines++
	if o != nil {
		p.owners[p.lines] = *o
	}
	p.text.WriteString(text + "\n")
}

// render writes the draft.
func (d *draft) render() *page {
	slices.SortStableFunc(d.notes, func(a, b Note) int {
		if a.File != b.File {
			return 0
		}
		return a.Line - b.Line
	})
	p := &page{owners: make(map[int]owner)}
	p.line(nil, "# "+plain(fmt.Sprintf("Imported from %s:%d, %s.", d.from.at.file, d.from.at.line, d.from.what)))
	if len(d.notes) > 0 {
		p.line(nil, "# Not translated, or not as it was:")
	}
	for _, n := range d.notes {
		p.line(nil, "# - "+n.String())
	}
	p.line(nil, "")
	for _, table := range tables {
		d.table(p, table)
	}
	return p
}

func (d *draft) table(p *page, table string) {
	entries := slices.DeleteFunc(slices.Clone(d.entries), func(e entry) bool { return e.table != table })
	if table == "" {
		place := func(e entry) int { return slices.Index(order, e.name) }
		if len(d.args) > 0 {
			entries = append(entries, entry{name: "args"})
		}
		if len(d.envFiles) > 0 {
			entries = append(entries, entry{name: "env_file"})
		}
		slices.SortStableFunc(entries, func(a, b entry) int { return place(a) - place(b) })
	} else if len(entries) > 0 {
		p.line(nil, "")
		p.line(nil, "["+table+"]")
	}
	for _, e := range entries {
		if e.why != "" {
			p.line(nil, "# "+e.why)
		}
		switch {
		case table == "" && e.name == "args" && len(d.args) == 1:
			p.line(&owner{"", "args", 0}, "args = ["+list(d.args[0].words)+"]")
		case table == "" && e.name == "args":
			p.line(nil, "args = [")
			for i, g := range d.args {
				p.line(&owner{"", "args", i}, "    "+list(g.words)+",")
			}
			p.line(nil, "]")
		case table == "" && e.name == "env_file":
			p.line(&owner{"", "env_file", 0}, "env_file = ["+list(d.envFiles)+"]")
		default:
			p.line(&owner{table, e.name, -1}, bareKey(e.name)+" = "+e.value)
		}
	}
}

// text writes the draft as a pool file that the configuration accepts: what it refuses is left out,
// with its reason as a note.
func (d *draft) text() (string, error) {
	const most = 200
	noted := false
	for range most {
		p := d.render()
		text := p.text.String()
		accepted, problems := config.ParsePool(d.id+".toml", []byte(text), config.DefaultHost())
		switch {
		case len(problems) == 0 && noted:
			return text, nil
		case len(problems) == 0:
			d.notePaths(*accepted)
			noted = true
			continue
		}
		if err := d.giveUp(p, problems[0]); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("more than %d of its keys are refused", most)
}

// ofArgument is how messages begin that number an argument.
var ofArgument = regexp.MustCompile(`^args\[[0-9]+\] (?:\([^)]*\) )?is `)

// giveUp removes what a problem is about.
func (d *draft) giveUp(p *page, problem config.Problem) error {
	o, found := p.owners[problem.Line]
	if !found {
		table, name, dotted := strings.Cut(problem.Key, ".")
		if !dotted {
			table, name = "", table
		}
		o = owner{table, name, -1}
	}
	why := ofArgument.ReplaceAllString(problem.Message, "")
	if problem.Allowed != "" {
		why += "; want " + problem.Allowed
	}
	if problem.Hint != "" {
		why += ". " + strings.TrimSuffix(strings.TrimPrefix(problem.Hint, "Remove it from args and "), ".")
	}
	what := strings.TrimPrefix(o.table+"."+o.name, ".")
	switch {
	case o.name == "args" && o.index >= 0:
		what = "args " + strings.Join(d.args[o.index].words, " ")
		d.args = slices.Delete(d.args, o.index, o.index+1)
	case o.name == "env_file":
		what = "env_file " + strings.Join(d.envFiles, ", ")
		d.envFiles = nil
	case o.table == "" && o.name == "model" && !strings.Contains(d.get("model"), replaceMe+"/model"):
		d.set("", "model", quoted("file:"+replaceMe+"/model"), "")
	case o.table == "" && o.name == "devices" && d.get("devices") != "[0]":
		d.devices = []string{"0"}
		d.set("", "devices", "[0]", guess)
	case slices.ContainsFunc(d.entries, func(e entry) bool { return e.table == o.table && e.name == o.name }) &&
		o.name != "engine":
		d.remove(o.table, o.name)
	default:
		return fmt.Errorf("%s", problem.Error())
	}
	d.notes = append(d.notes, d.from.note("left out (%s): %s", what, why))
	return nil
}

// sharedDevices marks the pools that have a GPU in common: engines of different pools run at the
// same time.
func sharedDevices(drafts []*draft) {
	for _, d := range drafts {
		others := 0
		for _, other := range drafts {
			if other != d && slices.ContainsFunc(d.devices, func(name string) bool {
				return slices.Contains(other.devices, name)
			}) {
				others++
			}
		}
		if others > 0 {
			d.set("", "shared", "true", fmt.Sprintf("So do %d more pools of this source that name the GPU. All "+
				"run at the same time: one for "+
				"which there is too little memory waits (INSUFFICIENT_VRAM), and none makes room for another.", others))
		}
	}
}

// ownPorts leaves the port out where several pools have it: in the source they ran in turn.
func ownPorts(drafts []*draft) {
	number := make(map[string]int)
	for _, d := range drafts {
		number[d.get("port")]++
	}
	for _, d := range drafts {
		if port := d.get("port"); port != "" && number[port] > 1 {
			d.remove("", "port")
			d.notes = append(d.notes, d.from.note("port %s: %d pools of this source have it; each gets one of "+
				"port_range", port,
				number[port]))
		}
	}
}

// plain returns a text for a comment: on one line, without what looks like a secret.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	const most = 400
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return lastwords.Redact(text)
}

func list(words []string) string {
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = quoted(w)
	}
	return strings.Join(parts, ", ")
}

// quoted writes a basic string of TOML.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case !unicode.IsPrint(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		case !unicode.IsPrint(r): // controls, and what is not seen or changes the order of text
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// bareKey writes a key of TOML, in quotes where it needs them.
func bareKey(name string) string {
	const bare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	if name != "" && strings.Trim(name, bare) == "" {
		return name
	}
	return quoted(name)
}
