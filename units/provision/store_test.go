package provision

import (
	"errors"
	"os"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/units/boltfile"
)

func TestStore(t *testing.T) {
	t.Run("verdicts_outlive_the_process", func(t *testing.T) {
		d := newDisk(t)
		s := d.open("v.db")
		if err := errors.Join(s.put(bucketVersions, "k", "b1"), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = d.open("v.db")
		defer s.Close()
		if v, ok := s.get(bucketVersions, "k"); !ok || v != "b1" {
			t.Errorf("get = %q, %t", v, ok)
		}
	})
	t.Run("a_damaged_store_is_replaced", func(t *testing.T) {
		d := newDisk(t)
		path := d.file("v.db", strings.Repeat("garbage ", 4096), 0o600)
		var reports []boltfile.Report
		s := OpenStore(path, func(r boltfile.Report) { reports = append(reports, r) })
		defer s.Close()
		if len(reports) != 1 || reports[0].Damage == nil || reports[0].Aside == "" {
			t.Fatalf("reports: %+v", reports)
		}
		if err := s.put(bucketDigests, "a", "v"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a_verdict_that_cannot_be_read_is_none", func(t *testing.T) {
		s := newDisk(t).store()
		odd := func(b *bbolt.Bucket) error { return b.Put([]byte("a"), []byte("{")) }
		if err := s.update(bucketDigests, odd); err != nil {
			t.Fatal(err)
		}
		if v, ok := s.get(bucketDigests, "a"); ok {
			t.Errorf("get = %q", v)
		}
		if err := s.put(bucketDigests, "a", "v"); err != nil {
			t.Error(err)
		}
	})
	t.Run("only_so_many_are_kept", func(t *testing.T) {
		d := newDisk(t)
		s := d.store()
		s.keep = 3
		for _, key := range []string{"a", "b", "c", "d"} {
			if err := s.put(bucketDigests, key, "v"); err != nil {
				t.Fatal(err)
			}
		}
		_, oldest := s.get(bucketDigests, "a")
		_, newest := s.get(bucketDigests, "d")
		if oldest || !newest {
			t.Errorf("oldest kept %t, newest kept %t", oldest, newest)
		}
	})
	t.Run("a_disk_that_refuses_is_reported_once_and_tried_again", func(t *testing.T) {
		d := newDisk(t)
		d.file("state", "a file where the directory should be", 0o600)
		var reports []boltfile.Report
		s := OpenStore(d.path("state/v.db"), func(r boltfile.Report) { reports = append(reports, r) })
		defer s.Close()
		for range 3 {
			if err := s.put(bucketDigests, "a", "v"); err != nil {
				t.Errorf("put: %v", err)
			}
		}
		if len(reports) != 1 || reports[0].Refused == nil || reports[0].Aside != "" {
			t.Errorf("reports: %+v", reports)
		}
		if err := os.Remove(d.path("state")); err != nil {
			t.Fatal(err)
		}
		if err := s.put(bucketDigests, "a", "v"); err != nil {
			t.Error(err)
		}
		if v, ok := s.get(bucketDigests, "a"); !ok || v != "v" {
			t.Errorf("get = %q, %t", v, ok)
		}
	})
	t.Run("none_is_good_too", func(t *testing.T) {
		var s *Store
		if err := errors.Join(s.put(bucketDigests, "a", "v"), s.Close()); err != nil {
			t.Error(err)
		}
		if v, ok := s.get(bucketDigests, "a"); ok {
			t.Errorf("get = %q", v)
		}
	})
}
