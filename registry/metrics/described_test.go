package metrics

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var described = regexp.MustCompile(`fqName: "([^"]+)"`)

// TestEveryMetricIsInTheReference: TestReference prints what its host has a series of. A metric
// that it has none of would not be missed.
func TestEveryMetricIsInTheReference(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, m := onGPUs(0)
	ch := make(chan *prometheus.Desc)
	go func() {
		m.prom.Describe(ch)
		close(ch)
	}()
	seen := make(map[string]bool)
	for d := range ch {
		name := described.FindStringSubmatch(d.String())[1]
		if seen[name] = true; strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("%s is not in docs/reference/metrics.md: give TestReference's host a series of it", name)
		}
	}
	families, err := m.prom.Gather()
	if err != nil || len(families) < 20 {
		t.Fatal(len(families), err)
	}
	for _, f := range families {
		if !seen[f.GetName()] {
			t.Errorf("%s is collected and not described", f.GetName())
		}
	}
}
