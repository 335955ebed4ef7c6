package keep

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func reopened(t *testing.T, path string) *Store {
	t.Helper()
	s, reports := opened(path)
	if len(reports()) > 0 {
		t.Fatalf("Open: %+v", reports())
	}
	return s
}

// opened opens a store and returns what it reports, so far.
func opened(path string) (*Store, func() []boltfile.Report) {
	var all []boltfile.Report
	s := Open(path, func(r boltfile.Report) { all = append(all, r) })
	return s, func() []boltfile.Report { return all }
}

func TestStore(t *testing.T) {
	asked := Intent{
		Drain: &Drain{Since: time.Unix(100, 0).UTC(),
			Deadline: Deadline{Boot: "b", At: 7, Wall: time.Unix(130, 0).UTC()}, By: "uid:0", Timeout: "1 lease"},
		Override: &Override{Model: "file:/m/b.gguf", Digest: "sha256:00", Since: time.Unix(90, 0).UTC(),
			By: "uid:1000"},
	}
	t.Run("what_was_asked_is_there_after_a_restart", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sub", "intents.db")
		s := reopened(t, path)
		if err := s.Put("tiny", asked); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = reopened(t, path)
		defer s.Close()
		list, err := s.Intents()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]Intent{"tiny": asked}, list); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("an_empty_intent_is_forgotten", func(t *testing.T) {
		s := reopened(t, filepath.Join(t.TempDir(), "intents.db"))
		defer s.Close()
		for _, i := range []Intent{asked, {}} {
			if err := s.Put("tiny", i); err != nil {
				t.Fatal(err)
			}
		}
		if list, err := s.Intents(); err != nil || len(list) != 0 {
			t.Errorf("Intents = %v, %v", list, err)
		}
	})
	t.Run("a_damaged_file_is_replaced_and_keeps_what_can_be_read", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "intents.db")
		s := reopened(t, path)
		if err := errors.Join(s.Put("tiny", asked), s.Close()); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for page := 0; page < len(content); page += os.Getpagesize() {
			if content[page+8] == 0x10 { // a list of free pages, of this transaction or an earlier one
				copy(content[page:], "noise")
			}
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, reports := opened(path)
		defer s.Close()
		if r := reports(); len(r) != 1 || r[0].Damage == nil || r[0].Aside == "" || r[0].Kept != 1 {
			t.Fatalf("reports: %+v", r)
		}
		if list, err := s.Intents(); err != nil || list["tiny"].Drain == nil {
			t.Errorf("Intents = %v, %v", list, err)
		}
	})
	t.Run("an_entry_that_cannot_be_read_costs_no_other", func(t *testing.T) {
		s := reopened(t, filepath.Join(t.TempDir(), "intents.db"))
		defer s.Close()
		if err := s.Put("tiny", asked); err != nil {
			t.Fatal(err)
		}
		if err := s.file.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(intents)).Put([]byte("odd"), []byte("{"))
		}); err != nil {
			t.Fatal(err)
		}
		list, err := s.Intents()
		if err == nil || len(list) != 1 || list["tiny"].Drain == nil {
			t.Errorf("Intents = %v, %v", list, err)
		}
	})
	t.Run("a_disk_that_refuses_is_asked_again_when_something_is_to_be_written", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder should be
			t.Fatal(err)
		}
		s, reports := opened(filepath.Join(dir, "intents.db"))
		defer s.Close()
		if r := reports(); len(r) != 1 || r[0].Refused == nil || r[0].Damage != nil {
			t.Fatalf("Open: %+v", r)
		}
		if list, err := s.Intents(); err != nil || len(list) != 0 {
			t.Errorf("Intents = %v, %v", list, err)
		}
		var f *registry.Failure
		if err := s.Put("tiny", asked); !errors.As(err, &f) || f.Code != registry.CodeStateNotSaved {
			t.Errorf("Put: %v", err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := s.Put("tiny", asked); err != nil {
			t.Errorf("Put: %v", err)
		}
		if list, err := s.Intents(); err != nil || len(list) != 1 {
			t.Errorf("Intents = %v, %v", list, err)
		}
	})
}

// TestHistoriesThatAreDeleted: notes that another process deletes, alone or with their directory,
// are written again; those that were dropped stay dropped.
func TestHistoriesThatAreDeleted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "restarts")
	log := slog.New(slog.DiscardHandler)
	h, _ := OpenHistories(dir, log)
	for _, key := range []string{"a/r0", "b/r0", "c/r0"} {
		if err := h.Put(key, []byte(`{"of":"`+key+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	h, _ = OpenHistories(dir, log) // by another manager
	if err := errors.Join(h.Drop("c/r0"), os.Remove(filepath.Join(dir, "a:r0"))); err != nil {
		t.Fatal(err)
	}
	for round, harm := range []func() error{
		func() error { return nil },
		func() error { return os.RemoveAll(dir) },
		func() error { return errors.Join(os.RemoveAll(dir), h.Put("b/r0", []byte(`{"of":"b/r0"}`))) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		n, err := h.Check()
		if want := []int{1, 2, 1}[round]; err != nil || n != want {
			t.Errorf("round %d: %d notes restored, %v; want %d", round, n, err, want)
		}
		if n, err := h.Check(); n != 0 || err != nil {
			t.Errorf("round %d: %d more, %v", round, n, err)
		}
		_, all := OpenHistories(dir, log)
		if len(all) != 2 || string(all["a/r0"]) != `{"of":"a/r0"}` {
			t.Errorf("round %d: %s", round, all)
		}
	}
}

// TestHistoriesAreRescued: where the directory of the notes is gone and cannot be made again, they
// are in a file elsewhere, the newest included, and with the next manager in their directory. A
// note that is there already stays.
func TestHistoriesAreRescued(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "run")
	dir, rescued := filepath.Join(parent, "restarts"), filepath.Join(t.TempDir(), "restarts.json")
	log := slog.New(slog.DiscardHandler)
	h, _ := OpenHistories(dir, log)
	rescue := func(want bool) {
		t.Helper()
		if needed, err := h.Rescue(rescued); needed != want || err != nil {
			t.Errorf("rescued: %t %v, want %t", needed, err, want)
		}
	}
	if err := errors.Join(h.Put("a/r0", []byte(`1`)), h.Put("b/r0", []byte(`2`))); err != nil {
		t.Fatal(err)
	}
	rescue(false)
	// A file in its place, as a read-only /run, refuses a directory.
	if err := errors.Join(os.RemoveAll(parent), os.WriteFile(parent, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	rescue(true)
	if err := h.Put("a/r0", []byte(`3`)); err == nil {
		t.Error("a note that is not in its directory was reported as written")
	}
	rescue(true)
	if err := os.Remove(parent); err != nil {
		t.Fatal(err)
	}
	next, _ := OpenHistories(dir, log)
	if err := next.Put("b/r0", []byte(`4`)); err != nil {
		t.Fatal(err)
	}
	if n, err := RecoverHistories(dir, rescued); n != 1 || err != nil {
		t.Errorf("%d recovered, %v", n, err)
	}
	_, all := OpenHistories(dir, log)
	if string(all["a/r0"]) != "3" || string(all["b/r0"]) != "4" || len(all) != 2 {
		t.Errorf("%s", all)
	}
	if n, err := RecoverHistories(dir, rescued); n != 0 || err != nil {
		t.Errorf("again: %d %v", n, err)
	}
	if err := os.WriteFile(rescued, []byte(`{"../x":1,`), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := RecoverHistories(dir, rescued); n != 0 || err == nil {
		t.Errorf("a broken file: %d %v", n, err)
	}
	if err := os.WriteFile(rescued, []byte(`{"../x":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := RecoverHistories(dir, rescued); n != 0 || err != nil {
		t.Errorf("a foreign name: %d %v", n, err)
	}
	if left, err := filepath.Glob(parent + "/x"); len(left) > 0 || err != nil {
		t.Errorf("written outside of the directory: %v", left)
	}
}

func TestDeadline(t *testing.T) {
	at, wall := int64(1000), time.Unix(5000, 0)
	clock := Clock{boot: "one", now: func() (int64, time.Time) { return at, wall }}
	d := clock.In(30 * time.Second)
	t.Run("a_clock_that_is_set_does_not_move_it", func(t *testing.T) {
		later := Clock{boot: "one", now: func() (int64, time.Time) {
			return at + int64(10*time.Second), wall.Add(-time.Hour)
		}}
		if left := later.Left(d); left != 20*time.Second {
			t.Errorf("left %v, want 20 s", left)
		}
	})
	t.Run("after_a_reboot_the_wall_clock_tells", func(t *testing.T) {
		later := Clock{boot: "two", now: func() (int64, time.Time) { return 5, wall.Add(40 * time.Second) }}
		if left := later.Left(d); left != -10*time.Second {
			t.Errorf("left %v, want -10 s", left)
		}
	})
	t.Run("this_host_has_such_clocks", func(t *testing.T) {
		c, err := NewClock()
		if err != nil {
			t.Fatal(err)
		}
		if left := c.Left(c.In(time.Hour)); left <= 59*time.Minute || left > time.Hour {
			t.Errorf("left %v of an hour", left)
		}
	})
}

func TestOverride(t *testing.T) {
	p := pool.Pool{ID: "tiny", Model: "file:/a", ModelDigest: "sha256:aa", Ctx: 9}
	var none *Override
	if got := none.Over(p); got.Model != p.Model {
		t.Errorf("no override changed the model to %s", got.Model)
	}
	got := (&Override{Model: "file:/b"}).Over(p)
	if got.Model != "file:/b" || got.ModelDigest != "" || got.Ctx != 9 {
		t.Errorf("the override gave %+v; the file's digest is of another model", got)
	}
}

// TestPreloadEndsWithTheBoot: with the pool that was preloaded, all that was asked of it ends.
func TestPreloadEndsWithTheBoot(t *testing.T) {
	asked := Intent{Preload: &Preload{Ask: pool.Preload{Binary: "/usr/bin/llama-server", Flags: []string{"-ngl", "99"}},
		Boot: "now", By: "uid:7"}, Override: &Override{Model: "file:/m/b.gguf"}}
	path := filepath.Join(t.TempDir(), "intents.db")
	s := reopened(t, path)
	if err := s.Put("a", asked); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopened(t, path)
	defer s.Close()
	all, err := s.Intents()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asked, all["a"].AtStart("now")); diff != "" {
		t.Errorf("in the same boot (-want +got):\n%s", diff)
	}
	if left := all["a"].AtStart("next"); !left.Empty() {
		t.Errorf("in the next boot: %+v", left)
	}
	drained := Intent{Drain: &Drain{By: "uid:0"}}
	if left := drained.AtStart("next"); left.Drain == nil {
		t.Error("a drain of a pool file ended with the boot")
	}
}
