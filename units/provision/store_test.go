package provision

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestStore(t *testing.T) {
	t.Run("verdicts_outlive_the_process", func(t *testing.T) {
		d := newDisk(t)
		s, _, err := OpenStore(d.path("v.db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.put(bucketVersions, "k", "b1"), s.Close()); err != nil {
			t.Fatal(err)
		}
		s, _, err = OpenStore(d.path("v.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if v, ok := s.get(bucketVersions, "k"); !ok || v != "b1" {
			t.Errorf("get = %q, %t", v, ok)
		}
	})
	t.Run("a_damaged_store_is_moved_aside", func(t *testing.T) {
		d := newDisk(t)
		path := d.file("v.db", strings.Repeat("garbage ", 4096), 0o600)
		s, moved, err := OpenStore(path)
		if err != nil || !moved {
			t.Fatalf("OpenStore: moved=%t, %v", moved, err)
		}
		defer s.Close()
		if _, err := os.Stat(path + ".broken"); err != nil {
			t.Errorf("the damaged file was not kept: %v", err)
		}
	})
	t.Run("a_second_process_is_told", func(t *testing.T) {
		d := newDisk(t)
		s, _, err := OpenStore(d.path("v.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, _, err := OpenStore(d.path("v.db")); err == nil || !strings.Contains(err.Error(), "held by another process") {
			t.Errorf("second OpenStore: %v", err)
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
	t.Run("a_disk_that_refuses_is_no_damage", func(t *testing.T) {
		d := newDisk(t)
		d.file("v.db/x", "", 0o644)
		_, moved, err := OpenStore(d.path("v.db"))
		if err == nil || moved || !strings.Contains(err.Error(), "directory") {
			t.Errorf("OpenStore of a directory: moved=%t, %v", moved, err)
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

// TestStoreSurvivesDamage: whatever stands in the file, the manager starts: with what is left, or with nothing.
func TestStoreSurvivesDamage(t *testing.T) {
	d := newDisk(t)
	s, _, err := OpenStore(d.path("v.db"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := s.put(bucketDigests, fmt.Sprintf("file %d", i), strings.Repeat("v", 64)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(d.path("v.db"))
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	try := func(t *testing.T, content []byte) {
		d := newDisk(t)
		path := d.file("v.db", string(content), 0o600)
		s, moved, err := OpenStore(path)
		if err != nil {
			t.Fatalf("OpenStore: moved=%t, %v", moved, err)
		}
		defer s.Close()
		for i := range 10 {
			_, _ = s.get(bucketDigests, fmt.Sprintf("file %d", i))
			_ = s.put(bucketDigests, fmt.Sprintf("new %d", i), "v")
		}
	}
	for at := 0; at < len(whole); at += page {
		t.Run(fmt.Sprintf("page_%d_overwritten", at/page), func(t *testing.T) {
			content := []byte(string(whole))
			for i := at; i < at+page; i++ {
				content[i] = byte(0xa5 + i)
			}
			try(t, content)
		})
		t.Run(fmt.Sprintf("cut_off_after_%d_pages", at/page), func(t *testing.T) { try(t, whole[:at]) })
		t.Run(fmt.Sprintf("cut_off_in_page_%d", at/page), func(t *testing.T) { try(t, whole[:at+page/2]) })
	}
}
