package reference

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// Differences compares what a manual page in mdoc says are the defaults of keys with the rows by
// which the keys are read: a default that is a value must be in the item of its key, behind
// "Default:" or before ", the default", and an item must name no other value. A page may leave a
// key without a default, or one whose default is words.
func Differences[T any](page string, keys []strict.Key[T]) []string {
	items := manualItems(page)
	var wrong []string
	for _, k := range keys {
		item, found := items[k.Path]
		if !found {
			continue // that each key is in the page is another test's
		}
		values := defaultsIn(item)
		switch {
		case startsValue(k.Default) && k.Default != "[]" && !slices.Contains(values, k.Default):
			wrong = append(wrong, fmt.Sprintf("%s: the default is %s, the page has %q", k.Path, k.Default, values))
		case !startsValue(k.Default) && len(values) > 0:
			wrong = append(wrong, fmt.Sprintf("%s: the page has the default %q, the key has %q", k.Path, values,
				k.Default))
		}
	}
	return wrong
}

var (
	macro = regexp.MustCompile(`^\.(It Ic|Ss|Ql|Ic|Er|Dv|Pa|Xr|Fl|Nm|Cm|Ar) ?`)
	// value is a value of TOML as a page prints it.
	value = `"[^"]*"|[0-9]+(?:\.[0-9]+)?|true|false`
	after = regexp.MustCompile(`Default: ?((?:` + value + `)(?: within (?:` + value + `))?)(?:[ .,]|$)`)
	ahead = regexp.MustCompile(`(` + value + `) ?, the default`)
	each  = regexp.MustCompile(value)
)

// defaultsIn are the values that an item's text says are defaults.
func defaultsIn(item string) []string {
	var values []string
	for _, m := range after.FindAllStringSubmatch(item, -1) {
		values = append(values, each.FindAllString(m[1], -1)...)
	}
	for _, m := range ahead.FindAllStringSubmatch(item, -1) {
		values = append(values, m[1])
	}
	return values
}

// manualItems returns the text of each item of a page by the path of its key. Items of several keys
// are there for each of them.
func manualItems(page string) map[string]string {
	items := make(map[string]string)
	table := ""
	var at []string
	for line := range strings.Lines(page) {
		line = strings.ReplaceAll(strings.TrimSpace(line), `\(dq`, `"`)
		kind := macro.FindString(line)
		rest := strings.TrimPrefix(line, kind)
		switch strings.TrimSpace(kind) {
		case ".Ss":
			table, at = strings.Trim(rest, "[]")+".", nil
		case ".It Ic":
			at = nil
			for name := range strings.SplitSeq(rest, ",") {
				at = append(at, table+strings.TrimSpace(name))
			}
		default:
			if strings.HasPrefix(line, ".") && kind == "" && !strings.HasPrefix(line, ".Pp") {
				if strings.HasPrefix(line, ".El") || strings.HasPrefix(line, ".Sh") {
					at = nil
				}
				continue
			}
			for _, path := range at {
				items[path] = strings.TrimSpace(items[path] + " " + rest)
			}
		}
	}
	return items
}
