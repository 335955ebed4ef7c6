package classify_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// classified are all sample lines that one of the parsers takes.
func classified() []string {
	var lines []string
	for _, c := range kernelCases {
		lines = append(lines, c.line)
	}
	for _, c := range engineCases {
		lines = append(lines, c.line)
	}
	return append(lines, "sched_reserve: compute buffer allocation failed, retrying without pipeline parallelism")
}

// TestGrepInPCRE asks the library that journalctl uses, through GNU grep.
func TestGrepInPCRE(t *testing.T) {
	if out, err := exec.Command("grep", "-cvP", "x", "/dev/null").Output(); strings.TrimSpace(string(out)) != "0" {
		t.Skipf("no grep that knows -P: %v", err)
	}
	var lines []string
	for _, record := range classified() {
		line, _, _ := strings.Cut(record, "\n") // grep's ^ would match within a record
		lines = append(lines, line)
	}
	cmd := exec.Command("grep", "-cP", classify.Grep())
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != strconv.Itoa(len(lines)) {
		t.Errorf("grep -P finds %s of %d lines: %v", got, len(lines), err)
	}
}

// FuzzGrep: no line that a parser takes is missed by the pattern, and no parser gives a verdict
// that cannot be shown.
func FuzzGrep(f *testing.F) {
	for _, line := range classified() {
		f.Add(line)
		f.Add(strings.ToUpper(line))
	}
	for _, line := range passedOver {
		f.Add(line)
	}
	pattern := regexp.MustCompile(classify.Grep())
	f.Fuzz(mutate.Many(func(t *testing.T, line string) {
		if strings.Contains(line, "\x00") || !utf8.ValidString(line) {
			t.Skip("the journal hands over text")
		}
		k, isKernel := classify.Kernel(line)
		e, isEngine := classify.EngineLog(line)
		if (isKernel || isEngine || classify.Retried(line)) && !pattern.MatchString(line) {
			t.Errorf("taken by a parser, and missed by Grep: %q", line)
		}
		check(t, k, isKernel)
		check(t, e, isEngine)
	}))
}

func check(t *testing.T, v classify.Verdict, ok bool) {
	t.Helper()
	if !ok {
		if v != (classify.Verdict{}) {
			t.Errorf("passed over, and a verdict: %+v", v)
		}
		return
	}
	if v.Class == "" || v.Scope == "" || v.Action == "" || v.Kind == "" || v.Text == "" || v.Source == "" {
		t.Errorf("incomplete: %+v", v)
	}
	if v.Class != classify.ClassLog && (v.Code == "" || v.Hint == "") {
		t.Errorf("acts without code or hint: %+v", v)
	}
	if len(v.Text) > 400 || !utf8.ValidString(v.Text) || strings.ContainsFunc(v.Text, func(r rune) bool {
		return r < ' '
	}) {
		t.Errorf("text cannot be shown: %q", v.Text)
	}
	if v.PCI != "" {
		if again, ok := classify.Address(v.PCI); !ok || again != v.PCI {
			t.Errorf("PCI address %q is not in its form", v.PCI)
		}
	}
	if v.PID < 0 || v.Xid < 0 || v.GI != nil && *v.GI < 0 {
		t.Errorf("negative numbers: %+v", v)
	}
}
