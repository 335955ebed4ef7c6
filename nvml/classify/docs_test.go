package classify

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write this package's part of docs/reference/gpu-errors.md")

// nextPart is where the part begins that package engine prints.
const nextPart = "<!-- From here on written by go test ./units/engine -update; do not edit. -->\n"

// TestTableInDocs prints the table; the operator's page shows it as it is in the code.
func TestTableInDocs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "gpu-errors.md")
	have, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	mine, rest, _ := strings.Cut(string(have), nextPart)
	if *update {
		if err := os.WriteFile(path, []byte(page()+nextPart+rest), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if mine != page() {
		t.Errorf("%s is not what the code says; run go test ./nvml/classify -update", path)
	}
}

func page() string {
	var b strings.Builder
	b.WriteString("<!-- Written by go test ./nvml/classify -update; do not edit. -->\n# GPU errors\n\n" +
		"These tables classify what the driver, the kernel's log, the engines' logs and the samples report about a " +
		"GPU.\n\n" +
		"| class | what happens |\n| --- | --- |\n" +
		"| `log` | nothing; with a code it explains why an engine ended |\n" +
		"| `application` | the affected engine is restarted |\n" +
		"| `degraded` | the GPU stays in use and is shown as degraded |\n" +
		"| `reset` | every pool on the GPU becomes unready, drains and waits |\n" +
		"| `host` | the same for all GPUs of the host if the scope is the host |\n\n" +
		"Only NVML's events and samples have these effects. A line of the kernel's log has them on no other GPU than " +
		"the one that it names, and only where NVML does not answer for that GPU: see the end of this page. A line " +
		"of an engine's log concerns that engine alone.\n")
	b.WriteString("\n## Xids\n\nAfter NVIDIA's Xid catalogue, <https://docs.nvidia.com/deploy/xid-errors/>. The " +
		"driver reports them as events and in the kernel's log. " +
		"In a MIG instance, class `degraded` or lower concerns that instance only.\n\n" +
		"| Xid | class | scope | action | code | hint |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range xidRows {
		printRow(&b, ranges(r.codes), r.class, r.scope, r.action, r.code, r.hint)
	}
	u := unknownXid
	printRow(&b, "any other", u.class, u.scope, u.action, u.code, u.hint)
	b.WriteString("\n| Xid | meaning |\n| --- | --- |\n")
	printNames(&b)
	b.WriteString("\n## Others\n\n| source | kind | text | class | scope | action | code | hint |\n| --- | " +
		"--- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows() {
		fmt.Fprintf(&b, "| %s | `%s` ", r.source, r.kind)
		printRow(&b, r.when, r.class, r.scope, r.action, r.code, r.hint)
	}
	b.WriteString("\nAn engine's line that quotes a request is ignored. Too little memory is not an error of an " +
		"engine that continues with `" + retryPhrase + "`.\n\n")
	return b.String()
}

func printRow(b *strings.Builder, what string, class Class, scope Scope, action Action, code, hint string) {
	fmt.Fprintf(b, "| %s | `%s` | %s | %s | %s | %s |\n", what, class, scope, action, cmp.Or(code, "–"),
		cmp.Or(hint, "–"))
}

// printNames prints a row for each run of Xids of one name.
func printNames(b *strings.Builder) {
	var codes []int
	for code := range xidNames {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for len(codes) > 0 {
		n := 1
		for n < len(codes) && codes[n] == codes[n-1]+1 && xidNames[codes[n]] == xidNames[codes[0]] {
			n++
		}
		fmt.Fprintf(b, "| %s | %s |\n", ranges(codes[:n]), xidNames[codes[0]])
		codes = codes[n:]
	}
}
