package fetch

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// BenchmarkVerify compares the sum of a file in the page cache, as it is computed behind a
// download, with sha256sum, in turn.
func BenchmarkVerify(b *testing.B) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		b.Skip(err)
	}
	data := hub.Data(1, 128<<20)
	c, err := openCache(wire.Request{CacheDir: b.TempDir(), Directory: "d"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.close()
	f := &file{path: "x", size: int64(len(data)), blob: "x", sum: sum{bySHA256, ""}}
	whole, err := openBlob(c, f, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer whole.close()
	if err := whole.write(data, 0); err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(c.dir, whole.name(incomplete))
	if _, err := os.Stat(name); err != nil {
		b.Fatal(err)
	}
	var ours, theirs []time.Duration
	for range max(b.N, 7) {
		begin := time.Now()
		if _, err := whole.verify(b.Context()); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(begin))
		begin = time.Now()
		if out, err := exec.Command("sha256sum", name).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		theirs = append(theirs, time.Since(begin))
	}
	median := func(d []time.Duration) float64 { return slices.Sorted(slices.Values(d))[len(d)/2].Seconds() }
	b.ReportMetric(float64(len(data))/1e6/median(ours), "MB/s")
	b.ReportMetric(median(theirs)/median(ours), "ratio-to-sha256sum")
}
