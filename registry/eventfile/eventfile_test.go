package eventfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// started is a registry that goes on where the file ends.
func started(t *testing.T, path string) (*File, *registry.Registry) {
	t.Helper()
	f, past, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New()
	r.Continue(past)
	return f, r
}

func note(r *registry.Registry, n int) {
	for range n {
		r.Note(registry.Event{Kind: registry.KindCrash, PoolID: "a", Cause: "c",
			Failure: &registry.Failure{Code: registry.CodeEngineCrashed, Message: "m", Hint: "h",
				Ending: &registry.Ending{Result: "signal", Signal: "SIGSEGV", Lines: []string{"l"}}}})
	}
}

// TestEventsSurviveARestart: the next manager has the events of the former one, to the last
// detail, and goes on with their numbers.
func TestEventsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	f, r := started(t, path)
	note(r, 1500)
	want, _ := r.Events(1000)
	if err := f.Save(r.Past()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	again, r := started(t, path)
	if again.Epoch() != f.Epoch() {
		t.Errorf("the epoch is %s, was %s", again.Epoch(), f.Epoch())
	}
	got, missed := r.Events(1000)
	if missed != 0 || len(got) != 500 {
		t.Fatalf("%d events, %d missed", len(got), missed)
	}
	for i := range got {
		want[i].At = want[i].At.Round(0) // without the monotonic clock
		got[i].At = got[i].At.Local()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-before +after):\n%s", diff)
	}
	if _, missed := r.Events(100); missed != 1500-1024-100 {
		t.Errorf("%d missed", missed)
	}
	note(r, 1)
	if r.LastEvent() != 1501 {
		t.Errorf("the next has number %d", r.LastEvent())
	}
	if got, missed := r.Events(1499); len(got) != 2 || missed != 0 || got[1].Seq != 1501 {
		t.Errorf("%d events, %d missed", len(got), missed)
	}
}

// TestNumbersAfterAKill: a manager that wrote nothing at its end leaves no number to be given
// twice, and the next one does not claim to know how many events are missing, nor the one after.
func TestNumbersAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	first, r := started(t, path)
	note(r, 10)
	killed, r := started(t, path)
	if killed.Epoch() != first.Epoch() || r.LastEvent() <= 10 {
		t.Errorf("epoch %s, was %s; the last number is %d", killed.Epoch(), first.Epoch(), r.LastEvent())
	}
	last := r.LastEvent()
	note(r, 2)
	if got, missed := r.Events(7); len(got) != 2 || missed != registry.MissedUnknown {
		t.Errorf("%d events, %d missed", len(got), missed)
	}
	if err := killed.Save(r.Past()); err != nil {
		t.Fatal(err)
	}
	_, r = started(t, path)
	if got, missed := r.Events(7); len(got) != 2 || missed != registry.MissedUnknown || got[1].Seq != last+2 {
		t.Errorf("after another restart: %d events, %d missed", len(got), missed)
	}
	if got, missed := r.Events(last); len(got) != 2 || missed != 0 {
		t.Errorf("after its last one: %d events, %d missed", len(got), missed)
	}
}

// TestDamagedFile: the manager starts with another epoch, in which no former number means anything.
func TestDamagedFile(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no_json": "x", "another_format": `{"format":9,"epoch":"a","Last":5}`,
		"an_epoch_with_a_newline": `{"format":1,"epoch":"a\n","Last":5}`,
		"too_large_a_number":      `{"format":1,"epoch":"a","Last":9007199254740992}`,
		"a_doubt_that_is_ahead":   `{"format":1,"epoch":"a","Last":5,"Doubt":6}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, past, err := Open(path)
			if err == nil || f == nil || f.Epoch() == "a" || past.Last != 0 {
				t.Errorf("%v %+v %v", f, past, err)
			}
			if _, _, err := Open(path); err != nil {
				t.Errorf("the next start: %v", err)
			}
		})
	}
	t.Run("events_that_do_not_fit_their_numbers", func(t *testing.T) {
		r := registry.New()
		r.Continue(registry.Past{Last: 9, Events: []registry.Event{{Seq: 3}, {Seq: 9}}})
		if list, missed := r.Events(0); len(list) != 0 || missed != 9 {
			t.Errorf("%d events, %d missed", len(list), missed)
		}
	})
}

// FuzzParse: whatever is in the file, a registry goes on with it or it is refused.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"epoch":"m1","whole":true,"Last":2,"Events":[{"Seq":1},{"Seq":2}]}`))
	f.Add([]byte(`{"format":1,"epoch":"m1","Last":1000000000}`))
	f.Add([]byte(`{"format":1,"epoch":"m1","whole":true,"Last":1,"Events":[{"Seq":1},{"Seq":1}]}`))
	f.Fuzz(mutate.Many(func(t *testing.T, body []byte) {
		c, err := parse(body)
		if err != nil {
			return
		}
		r := registry.New()
		r.Continue(c.Past)
		note(r, 1)
		list, _ := r.Events(0)
		if n := len(list); n == 0 || list[n-1].Seq != c.Last+1 {
			t.Errorf("%d events after number %d", n, c.Last)
		}
	}))
}
