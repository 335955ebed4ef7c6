package convert

import (
	"fmt"
	"path"
	"strings"
)

// unitKey is one assignment of a unit file.
type unitKey struct {
	section, name, value string
	at                   spot
}

// readUnit reads a file in the form of systemd.syntax(7). Lines that are no assignment are notes,
// as systemd logs and ignores them.
func readUnit(s Source) (keys []unitKey, notes []Note) {
	section, pending, at := "", "", 0
	number := 0
	for line := range strings.Lines(string(s.Data)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		comment := strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";")
		if comment || trimmed == "" && pending == "" {
			continue // also within a continued line
		}
		if pending == "" {
			at = number
		}
		if before, goesOn := strings.CutSuffix(strings.TrimRight(line, " \t"), `\`); goesOn {
			pending += before + " "
			continue
		}
		whole := strings.TrimSpace(pending + line)
		pending = ""
		name, value, found := strings.Cut(whole, "=")
		switch {
		case strings.HasPrefix(whole, "[") && strings.HasSuffix(whole, "]"):
			section = whole[1 : len(whole)-1]
		case !found || section == "":
			notes = append(notes, Note{s.Name, at, plain(fmt.Sprintf("%q is no assignment of a section; left out",
				whole))})
		default:
			keys = append(keys, unitKey{section, strings.TrimSpace(name), strings.TrimSpace(value), spot{s.Name, at}})
		}
	}
	if pending != "" {
		notes = append(notes, Note{s.Name, at, "the last line ends with a backslash; it was left out"})
	}
	return keys, notes
}

// fromUnit translates a unit file of systemd, or a quadlet, with its drop-ins.
func fromUnit(sources []Source) (Result, error) {
	var keys []unitKey
	var notes []Note
	for _, s := range sources {
		k, n := readUnit(s)
		keys, notes = append(keys, k...), append(notes, n...)
	}
	sections := make(map[string]bool)
	for _, k := range keys {
		sections[k.section] = true
	}
	name := path.Base(sources[0].Name)
	stem := strings.TrimSuffix(name, path.Ext(name))
	l := &launch{name: stem, what: "unit " + name, at: spot{sources[0].Name, 1}, quoting: asUnit}
	u := &unit{l: l, keys: keys, full: name, held: make(map[string][]string), lines: make(map[string]spot)}
	switch {
	case sections["Container"]:
		l.box = &box{ports: make(map[string]string)}
		u.quadlet()
		u.service()
		u.finish()
		return finish(Quadlet, []*launch{l}, notes), nil
	case sections["Pod"] || sections["Kube"]:
		return Result{}, fmt.Errorf("%s: pods are not read; want the .container file of an engine", sources[0].Name)
	case !sections["Service"]:
		return Result{}, fmt.Errorf("%s: no section [Service] or [Container]; want a %s, a %s or a %s", sources[0].Name,
			Unit, Quadlet, Swap)
	}
	u.service()
	u.finish()
	return finish(Unit, []*launch{l}, notes), nil
}
