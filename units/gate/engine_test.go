package gate

import (
	"os"
	"testing"
	"time"
)

// TestSleepBelowAMillisecond: a short wait is a wait, or the first looks would turn into a busy
// loop.
func TestSleepBelowAMillisecond(t *testing.T) {
	w, err := watch(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, d := range []time.Duration{900 * time.Microsecond, 1900 * time.Microsecond} {
		began := time.Now()
		gone, err := w.sleep(d)
		if took := time.Since(began); gone || err != nil || took < d {
			t.Errorf("sleep(%s) took %s: gone %t, %v", d, took, gone, err)
		}
	}
}
