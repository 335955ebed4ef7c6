package driver

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

// BenchmarkSample is one sample of so many GPUs and processes on each, the units of the processes
// read too. The fake library costs one stat(2) a call; a real driver's own time is not in it.
func BenchmarkSample(b *testing.B) {
	for _, c := range []struct{ gpus, processes int }{{1, 1}, {8, 8}, {16, 64}} {
		b.Run(fmt.Sprintf("%d_gpus_%d_processes", c.gpus, c.processes), func(b *testing.B) {
			dir := b.TempDir()
			b.Setenv("FAKENVML_DIR", dir)
			library, err := fakenvml.Build(b.Context(), dir, false)
			if err != nil {
				b.Skip(err)
			}
			state := fakenvml.Default(c.gpus, 24<<30)
			for i := range state.GPUs {
				for _, pid := range pids(b, c.processes) {
					state.GPUs[i].Processes = append(state.GPUs[i].Processes, fakenvml.Process{PID: pid, Used: 1 << 30})
				}
			}
			if err := state.Write(dir); err != nil {
				b.Fatal(err)
			}
			d := New(Options{Library: library})
			if err := d.Open(); err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			b.ReportAllocs()
			for b.Loop() {
				s, err := d.Sample()
				if err != nil || len(s.Devices) != c.gpus || len(s.Devices[0].Processes) != c.processes {
					b.Fatalf("%v: %+v", err, s)
				}
			}
		})
	}
}

// pids are processes of this host that live, and for what is lacking any others.
func pids(b *testing.B, n int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.Fatal(err)
	}
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && len(all) < n {
			all = append(all, pid)
		}
	}
	for i := len(all); i < n; i++ {
		all = append(all, 1<<22+i)
	}
	return all
}
