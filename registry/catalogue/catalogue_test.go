package catalogue

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the catalogue and the reference")

var root = filepath.Join("..", "..")

// TestCatalogue: the file for journalctl -x is what the table has. -update writes it.
func TestCatalogue(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Texts for journalctl -x, see catalog(5). Written by go test ./registry/catalogue -update.\n")
	for _, m := range Messages() {
		fmt.Fprintf(&b, "\n-- %s\nSubject: %s\nDefined-By: pool-managerd\nDocumentation: man:%s\n\n%s\n",
			m.ID, m.Subject, m.Page, m.Text)
	}
	golden.File(t, filepath.Join(root, "packaging", "systemd", "pool-managerd.catalog"), b.String(), *update)
}

// TestReference: the page with the fields of the log and the ids. -update writes it.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Fields and messages of the log

Written by ` + "`go test ./registry/catalogue -update`" + `. In the journal the names are in upper case, and each entry has ` + "`SYSLOG_IDENTIFIER=pool-managerd`" + `;
as JSON (` + "`[log] format`" + `) they are as here.

## Fields

A field is absent where it is not known, or has no meaning for the line. Every line about a pool has those that are marked, where they are known.

| field | of each line about a pool | content |
| --- | --- | --- |
`)
	for _, f := range Fields() {
		mark := ""
		if f.OfPool {
			mark = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, mark, f.Text)
	}
	b.WriteString(`
## How many lines

A pool writes at most 20 lines a minute, and 30 with those that have a ` + "`message_id`" + `; all pools together write 400 and 600. Fifty pools in a crash loop write
600 lines a minute, and one more at level warning, with ` + "`count`" + ` and the pools that would have written most. Not counted, and never left out: lines of requests
(` + "`identity`" + `), of the host, and those at level debug. The state of a pool and its events are complete in the API and in ` + "`poolctl events`" + `.
What engines write themselves is not the manager's: PID 1 passes it to the journal, which has its own limit for each unit (` + "`RateLimitBurst=` in journald.conf(5)" + `).

## Messages

An id is the same in every version, whatever the sentence is. The texts are those that ` + "`journalctl -x`" + ` prints:

    journalctl -x -u pool-managerd MESSAGE_ID=` + PoolUnready + `

| ` + "`MESSAGE_ID=`" + ` | message |
| --- | --- |
`)
	for _, m := range Messages() {
		subject := regexp.MustCompile(`@([A-Z_]+)@`).ReplaceAllStringFunc(m.Subject, func(f string) string {
			return "`" + strings.ToLower(strings.Trim(f, "@")) + "`"
		})
		fmt.Fprintf(&b, "| `%s` | %s |\n", m.ID, subject)
	}
	golden.File(t, filepath.Join(root, "docs", "reference", "log.md"), b.String(), *update)
}

// TestMessages: ids are 128 bits in hex, each once, none of systemd's; texts name fields that lines
// have, and pages that exist.
func TestMessages(t *testing.T) {
	fields := make(map[string]bool)
	for _, f := range Fields() {
		fields[strings.ToUpper(f.Name)] = true
	}
	seen := make(map[string]bool)
	for _, m := range Messages() {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(m.ID) || seen[m.ID] {
			t.Errorf("%s: the id %s is no id, or is there twice", m.Name, m.ID)
		}
		seen[m.ID] = true
		for _, name := range regexp.MustCompile(`@([^@\s]+)@|\b([A-Z_]+)=`).FindAllStringSubmatch(m.Subject+m.Text, -1) {
			if field := name[1] + name[2]; !fields[field] {
				t.Errorf("%s: there is no field %s", m.Name, field)
			}
		}
		name, section, _ := strings.Cut(strings.TrimSuffix(m.Page, ")"), "(")
		if section == "7" { // made of a page of the documentation
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "docs", "man", name+"."+section)); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// TestEachMessageIsLogged: a line of the programs has it.
func TestEachMessageIsLogged(t *testing.T) {
	source := ""
	for _, dir := range []string{"registry", "units", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			body, err := os.ReadFile(path)
			source += string(body)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range Messages() {
		if !strings.Contains(source, "catalogue."+m.Name) {
			t.Errorf("%s is logged nowhere", m.Name)
		}
	}
}
