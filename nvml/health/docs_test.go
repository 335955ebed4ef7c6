package health

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write this package's part of docs/reference/gpu-errors.md")

// healthPart is where this package's part begins; what stands before it is package classify's.
const healthPart = "<!-- From here on written by go test ./nvml/health -update; do not edit. -->\n"

// TestTableInDocs prints the rules; the operator's page shows them as they are in the code.
func TestTableInDocs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "gpu-errors.md")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, mine, found := strings.Cut(string(have), healthPart)
	if *update {
		if err := os.WriteFile(path, []byte(before+healthPart+page()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !found || mine != page() {
		t.Errorf("%s is not what the code says; run go test ./nvml/health -update", path)
	}
}

func page() string {
	var b strings.Builder
	b.WriteString("## Health of a GPU\n\nA GPU has the worst health of its known faults. Verdicts only make it " +
		"worse; only the conditions in the table make it better. Nothing is kept over a restart of the daemon.\n\n" +
		"A line of the kernel's log is text that a local user may have written: it has no effect by itself. " +
		"NVML is asked at once, and `gpu_log_reports_total` counts what it answered: `denied`, after a clean " +
		"re-probe, and the line is ignored; `confirmed`, where its event or its sample shows a fault of that GPU; " +
		"`unanswered`, after " + patience.String() + " without a sample, and the line counts for that GPU; " +
		"`unlisted`, for a GPU that NVML never listed, and the line is ignored.\n\n" +
		fmt.Sprintf("A clean re-probe is %d samples in a row, the first and the last at least %s apart, all taken "+
			"after the last verdict that disables the GPU, in each of which the GPU answers without an error and "+
			"the driver's recovery action is none or unknown. A gap in the facts restarts it.\n\n",
			cleanProbes, cleanSpan) +
		"| health | engines may use it | entered by | left by |\n| --- | --- | --- | --- |\n")
	fmt.Fprintf(&b, "| `%s` | yes | the first sample with the GPU, without a fault | any row below |\n", OK)
	fmt.Fprintf(&b, "| `%s` | yes | it was never seen; or it has no known fault, and its facts are older than "+
		"%s | the next sample |\n", Unknown, unknownAfter)
	for _, c := range clearings {
		usable := "no"
		if c.Health.Usable() {
			usable = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Health, usable, c.Entered, c.Cleared)
	}
	return b.String()
}

// TestClearings: each finding that can be made has one rule, and the quiet time is the one that the
// table names.
func TestClearings(t *testing.T) {
	rules := map[string]int{}
	for _, c := range clearings {
		rules[fmt.Sprintf("%s %t %t", c.Health, c.Factual, c.Text)]++
		if c.Text && (patience.Seconds() != 10 || !strings.Contains(c.Entered, "10 seconds")) {
			t.Errorf("NVML has %s to answer, the table says %q", patience, c.Entered)
		}
		if c.Health == Degraded && !c.Factual && !c.Text &&
			(quiet.Minutes() != 10 || !strings.Contains(c.Cleared, "ten minutes")) {
			t.Errorf("the quiet time is %s, the table says %q", quiet, c.Cleared)
		}
	}
	want := map[string]int{"degraded false false": 1, "degraded true false": 1, "degraded false true": 1,
		"needs-reset false false": 1, "needs-reset true false": 1, "needs-reset false true": 1, "lost true false": 1,
		"host false false": 1, "host true false": 1}
	if fmt.Sprint(rules) != fmt.Sprint(want) {
		t.Errorf("rules = %v, want %v", rules, want)
	}
}
