package provision

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/units/memory"
)

// TestPeaks checks a record after a series of samples.
func TestPeaks(t *testing.T) {
	const mib = 1 << 20
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	sample := func(run string, started time.Time, devices ...uint64) memory.Sample {
		return memory.Sample{Run: run, Started: started, Devices: devices}
	}
	cases := []struct {
		name    string
		samples []memory.Sample
		want    []uint64
	}{
		{"first_sample", []memory.Sample{sample("a", at(0), 5*mib, 6*mib)}, []uint64{5 * mib, 6 * mib}},
		{"rounded_up_to_a_mebibyte", []memory.Sample{sample("a", at(0), 5*mib+1)}, []uint64{6 * mib}},
		{"grows_within_a_run", []memory.Sample{sample("a", at(0), 5*mib), sample("a", at(0), 7*mib)}, []uint64{7 * mib}},
		{"does_not_fall_within_a_run", []memory.Sample{sample("a", at(0), 7*mib), sample("a", at(0), 5*mib)}, []uint64{7 * mib}},
		{"each_device_has_its_own_peak", []memory.Sample{sample("a", at(0), 7*mib, mib), sample("a", at(0), 5*mib, 2*mib)}, []uint64{7 * mib, 2 * mib}},
		{"a_later_run_replaces_it_and_may_fall", []memory.Sample{sample("a", at(0), 7*mib), sample("b", at(1), 5*mib)}, []uint64{5 * mib}},
		{"an_earlier_run_changes_nothing", []memory.Sample{sample("b", at(1), 5*mib), sample("a", at(0), 7*mib)}, []uint64{5 * mib}},
		{"two_replicas_at_the_same_time_do_not_alternate", []memory.Sample{sample("a", at(0), 7*mib), sample("b", at(1), 5*mib),
			sample("a", at(0), 8*mib), sample("b", at(1), 6*mib)}, []uint64{6 * mib}},
		{"another_number_of_devices_replaces_it", []memory.Sample{sample("a", at(0), 7*mib), sample("a", at(0), 3*mib, 4*mib)}, []uint64{3 * mib, 4 * mib}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newDisk(t).store()
			for _, sample := range c.samples {
				if err := s.Record("k", sample); err != nil {
					t.Fatal(err)
				}
			}
			if got, ok := s.Peak("k"); !ok || !slices.Equal(got, c.want) {
				t.Errorf("Peak = %v, %t; want %v", got, ok, c.want)
			}
		})
	}
}

func TestPeaksStore(t *testing.T) {
	sample := memory.Sample{Run: "a", Started: time.Unix(1, 0), Devices: []uint64{1 << 20}}
	t.Run("outlive_the_process", func(t *testing.T) {
		d := newDisk(t)
		s := d.open("v.db")
		if err := errors.Join(s.Record("k", sample), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = d.open("v.db")
		defer s.Close()
		if _, ok := s.Peak("k"); !ok {
			t.Error("the peak is gone")
		}
	})
	t.Run("an_unchanged_peak_is_not_written", func(t *testing.T) {
		s := newDisk(t).store()
		if err := s.Record("k", sample); err != nil {
			t.Fatal(err)
		}
		writes := func() (n int64) {
			err := s.file.View(func(tx *bbolt.Tx) error {
				stats := tx.DB().Stats()
				n = stats.TxStats.GetWrite()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := writes()
		if err := s.Record("k", sample); err != nil {
			t.Fatal(err)
		}
		if n := writes() - before; n != 0 {
			t.Errorf("%d writes for nothing", n)
		}
	})
	t.Run("a_store_of_a_version_without_peaks_has_none", func(t *testing.T) {
		s := newDisk(t).store()
		if _, ok := s.Peak("k"); ok {
			t.Error("a peak of nothing")
		}
	})
	t.Run("only_so_many_are_kept", func(t *testing.T) {
		s := newDisk(t).store()
		s.keep = 3
		for i := range 9 {
			if err := s.Record(fmt.Sprint("k", i), sample); err != nil {
				t.Fatal(err)
			}
		}
		_, oldest := s.Peak("k0")
		_, newest := s.Peak("k8")
		if oldest || !newest {
			t.Errorf("oldest kept %t, newest kept %t", oldest, newest)
		}
	})
	t.Run("none_is_good_too", func(t *testing.T) {
		var s *Store
		if err := s.Record("k", sample); err != nil {
			t.Error(err)
		}
		if _, ok := s.Peak("k"); ok {
			t.Error("a peak of nothing")
		}
	})
}

// TestRaisedNeeds: a raised need survives the manager, counts the ends in a row, and is forgotten
// with a run that serves. The peak beside it stays.
func TestRaisedNeeds(t *testing.T) {
	disk := newDisk(t)
	s := disk.store()
	if err := s.Record("k", memory.Sample{Run: "z", Started: time.Unix(1, 0), Devices: []uint64{1 << 20}}); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		run   string
		times int
	}{{"a", 1}, {"a", 1}, {"b", 2}, {"c", 3}} {
		up := memory.Raised{Run: c.run, Code: "CUDA_OOM", At: time.Unix(int64(i), 0), Times: 1,
			Devices: []uint64{uint64(i + 1)}}
		if err := s.Raise("k", up); err != nil {
			t.Fatal(err)
		}
		got, ok := s.Raised("k")
		if !ok || got.Times != c.times || got.Devices[0] != uint64(i+1) || !got.At.Equal(up.At) {
			t.Errorf("after %s: %+v, %t", c.run, got, ok)
		}
	}
	if _, ok := s.Raised("another"); ok {
		t.Error("another key was raised")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = disk.store()
	if got, ok := s.Raised("k"); !ok || got.Times != 3 {
		t.Errorf("after a restart: %+v, %t", got, ok)
	}
	for range 2 {
		if err := s.Lower("k"); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := s.Raised("k"); ok {
		t.Error("not forgotten")
	}
	if peak, ok := s.Peak("k"); !ok || peak[0] != 1<<20 {
		t.Errorf("peak %v, %t", peak, ok)
	}
	var none *Store
	if _, ok := none.Raised("k"); ok || none.Raise("k", memory.Raised{}) != nil || none.Lower("k") != nil {
		t.Error("a store that is none remembers or fails")
	}
}
