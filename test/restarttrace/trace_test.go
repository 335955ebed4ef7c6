package restarttrace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecordedRestarts: of what a real systemd signalled, each failed run is counted once.
func TestRecordedRestarts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl"), func(t *testing.T) {
			trace, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := Check(trace); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCheckFinds: a count that is not the truth is an error.
func TestCheckFinds(t *testing.T) {
	for _, c := range []struct{ name, trace string }{
		{"another_number", `{"unit":"a","run":"1","active":"activating","sub":"auto-restart"} {"unit":"a","failed":2}`},
		{"no_trace", ``},
		{"no_json", `{"unit":`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Check([]byte(c.trace)); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestCheckLive: a live trace may be off by what met the unit, and by nothing more.
func TestCheckLive(t *testing.T) {
	const seen = `{"unit":"a","run":"1","active":"activating","sub":"auto-restart"} {"unit":"a","failed":2`
	for _, c := range []struct {
		name, trace string
		good        bool
	}{
		{"met_by_a_stop", seen + `,"met":1}`, true},
		{"met_by_nothing", seen + `}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckLive([]byte(c.trace)); (err == nil) != c.good {
				t.Errorf("CheckLive = %v", err)
			}
			if Check([]byte(c.trace)) == nil {
				t.Error("a recorded trace is off, and no error is returned")
			}
		})
	}
}
