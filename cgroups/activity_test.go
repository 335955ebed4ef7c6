package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestReadActivity: CPU time is always there, input and output where the controller is on.
func TestReadActivity(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  Activity
		bad   bool
	}{
		"all": {map[string]string{"cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
			"io.stat": "8:0 rbytes=4096 wbytes=1 rios=1 wios=1\n253:0 rbytes=3\n"},
			Activity{CPU: 2500 * time.Millisecond, IOBytes: 4100}, false},
		"no_io":    {map[string]string{"cpu.stat": "usage_usec 7\n"}, Activity{CPU: 7 * time.Microsecond}, false},
		"odd_cpu":  {map[string]string{"cpu.stat": "usage_usec -1\n"}, Activity{}, true},
		"odd_io":   {map[string]string{"io.stat": "8:0 rbytes=x\n"}, Activity{}, true},
		"no_files": {nil, Activity{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "a.service"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range c.files {
				if err := os.WriteFile(filepath.Join(root, "a.service", file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ReadActivity(root, "/a.service")
			var odd *ParseError
			if got != c.want || errors.As(err, &odd) != c.bad || !c.bad && err != nil {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if _, err := ReadActivity(t.TempDir(), "/gone.service"); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("a cgroup that is gone: %v", err)
	}
}
