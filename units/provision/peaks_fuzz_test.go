package provision

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/memory"
)

// FuzzPeak: whatever the file has under a key, a sample gives a record that holds it, reads as it
// was written, and does not change by the same sample again.
func FuzzPeak(f *testing.F) {
	f.Add([]byte(`{"run":"a","started":"2026-01-02T03:04:05Z","devices":[1048576]}`), uint64(5), uint64(1<<33))
	f.Add([]byte(`{"run":"b","devices":[18446744073709551615,0,7]}`), uint64(0), uint64(1<<63))
	f.Add([]byte(`{"devices":[]}`), uint64(1), uint64(1))
	f.Add([]byte(`{`), uint64(1), uint64(1))
	f.Fuzz(mutate.Many(func(t *testing.T, raw []byte, first, second uint64) {
		var old peak
		_ = json.Unmarshal(raw, &old) // one that cannot be read is replaced
		sample := memory.Sample{Run: "now", Started: old.Started.Add(time.Hour),
			Devices: []uint64{first % (1 << 50), second % (1 << 50)}}
		merged, changed := old.merge(sample)
		if !changed {
			return // an older run, or one that has it already
		}
		for i, d := range sample.Devices {
			if i >= len(merged.Devices) || merged.Devices[i] < d {
				t.Errorf("%s and %+v became %+v", raw, sample, merged)
			}
		}
		text, err := json.Marshal(merged)
		if err != nil {
			return // a year that RFC 3339 cannot write; Record reports it
		}
		var again peak
		if err := json.Unmarshal(text, &again); err != nil || !slices.Equal(again.Devices, merged.Devices) {
			t.Errorf("%s is read as %+v, %v", text, again, err)
		}
		if _, changed := merged.merge(sample); changed {
			t.Errorf("%+v changes %+v again", sample, merged)
		}
	}))
}
