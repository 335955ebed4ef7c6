package obtain

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// BenchmarkTenDownloads is what the progress of ten downloads costs the manager in one second: each
// prints a line, which is read, checked and passed on. It may be 1 % of a core, which is 10 ms.
func BenchmarkTenDownloads(b *testing.B) {
	type download struct {
		flight *flight
		seen   seen
		tail   tail
		out    *os.File
	}
	event := wire.Event{Kind: wire.Progress, Bytes: 1 << 30, Total: 1 << 33, Rate: 310e6, File: "model-Q4_K_M.gguf"}
	line := event.Append(nil)
	passed := 0
	all := make([]download, 10)
	for i := range all {
		d := &all[i]
		path := filepath.Join(b.TempDir(), fmt.Sprint(i))
		out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			b.Fatal(err)
		}
		defer out.Close()
		d.flight = newFlight(nil, Want{Ref: modelref.Ref{Scheme: modelref.HF}}, nil)
		d.tail, d.out = tail{path: path}, out
		d.flight.waiting[0] = func(pool.Staging) { passed++ }
	}
	for b.Loop() {
		for i := range all {
			d := &all[i]
			if _, err := d.out.Write(line); err != nil {
				b.Fatal(err)
			}
			events := d.tail.read()
			for _, e := range events {
				d.seen.take(e)
			}
			if n := len(events); n > 0 {
				d.flight.report(d.flight.progress(d.seen, events[n-1]))
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/1e7, "%core")
	if passed < 10 {
		b.Errorf("%d reports", passed)
	}
}
