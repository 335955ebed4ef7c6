package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/supervise"
)

func TestUsageBelow(t *testing.T) {
	root := t.TempDir()
	const unit = `pool-engine@llama3\x2d8b.r0.service`
	dir := filepath.Join(root, "pool.slice", "pool-engines.slice", unit)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"cpu.stat": "usage_usec 1000000\n", "io.stat": "8:0 rbytes=1 wbytes=2\n",
		"memory.current": "1048576\n", "memory.events": "low 0\noom_kill 3\n",
		"memory.pressure": "some avg10=12.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	used, ok := usageBelow(root, unit)
	if !ok || used.Cgroup == 0 || *used.MemoryBytes != 1<<20 || *used.OOMKills != 3 || *used.Pressure != 0.125 {
		t.Errorf("%+v %t", used, ok)
	}
	if a, ok := activityBelow(root, unit); !ok || a != (supervise.Activity{CPU: time.Second, IOBytes: 3}) {
		t.Errorf("%+v %t", a, ok)
	}
	if a, ok := activityBelow(root, "pool-engine@gone.r0.service"); ok {
		t.Errorf("a unit that does not run has used %+v", a)
	}
	if used, ok := usageBelow(root, "pool-engine@gone.r0.service"); ok {
		t.Errorf("a unit that does not run uses %+v", used)
	}
}
