// Package reference prints the reference pages of configuration files from the rows by which they
// are read, for the tests that hold the pages to the rows.
package reference

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// Page prints rows as a reference page in Markdown: one table for the keys at the top and one
// for each table of the file, in the order of the rows.
func Page[T any](keys []strict.Key[T]) string {
	var order []string
	sections := make(map[string][]strict.Key[T])
	for _, k := range keys {
		table := ""
		if dot := strings.LastIndexByte(k.Path, '.'); dot >= 0 {
			table = k.Path[:dot]
		}
		if sections[table] == nil {
			order = append(order, table)
		}
		sections[table] = append(sections[table], k)
	}
	var b strings.Builder
	for _, table := range order {
		if table == "" {
			b.WriteString("\n## Keys at the top\n\n")
		} else {
			fmt.Fprintf(&b, "\n## `[%s]`\n\n", table)
		}
		b.WriteString("| key | type | default | allowed | what it does |\n| --- | --- | --- | --- | --- |\n")
		for _, k := range sections[table] {
			b.WriteString(row(table, k))
		}
	}
	return b.String()
}

func row[T any](table string, k strict.Key[T]) string {
	name := "`" + strings.TrimPrefix(strings.TrimPrefix(k.Path, table), ".") + "`"
	if name == "`*`" {
		name = "any name"
	}
	fallback := k.Default
	switch {
	case fallback == "":
		fallback = "none"
	case startsValue(fallback):
		fallback = "`" + fallback + "`"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", name, k.Type.Name, fallback, cell(k.Type.Allowed), cell(k.Doc))
}

// startsValue reports whether a default is a value as TOML writes it, and not a description.
func startsValue(s string) bool {
	return s != "" && strings.ContainsRune(`"0123456789[`, rune(s[0])) || s == "true" || s == "false"
}

// cell keeps a text from ending its cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
