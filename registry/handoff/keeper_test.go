package handoff

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// shelf is a directory in memory that remembers when each file was written.
type shelf struct {
	mu     sync.Mutex
	files  map[string]string
	writes map[string][]time.Time
	err    error
	log    strings.Builder
}

func (s *shelf) Write(name string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.files[name] = string(body)
	s.writes[name] = append(s.writes[name], time.Now())
	return nil
}

func (s *shelf) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
	return s.err
}

func (s *shelf) Read(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if body, ok := s.files[name]; ok {
		return []byte(body)
	}
	return nil
}

func (s *shelf) Stamp(name string) (Stamp, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.files[name]
	return Stamp{Inode: uint64(len(s.writes[name])), Size: int64(len(body))}, ok
}

func (s *shelf) List() (files, left []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files)), nil, nil
}

// file returns a file as a reader finds it, nil where there is none.
func (s *shelf) file(t *testing.T, name string) map[string]any {
	t.Helper()
	body := s.Read(name)
	if body == nil {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

func (s *shelf) written(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.writes[name])
}

func (s *shelf) fails(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// keeping runs f in virtual time with a keeper that follows a registry; before are the files that a
// former manager left.
func keeping(t *testing.T, name string, before map[string]string,
	f func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{files: maps.Clone(before), writes: make(map[string][]time.Time)}
			if s.files == nil {
				s.files = make(map[string]string)
			}
			k, r := NewKeeper(s, slog.New(slog.NewTextHandler(&s.log, nil))), registry.New()
			r.OnPool(k.Changed)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { k.Run(ctx) })
			f(t, r, k, s)
			cancel()
			running.Wait()
		})
	})
}

// serves is pool a of one replica that serves with so many free slots, on its first side or the
// second.
func serves(free int, second bool) registry.Pool {
	r := registry.Replica{ID: "r0", Name: "r0", Ready: true, Endpoint: "http://127.0.0.1:21000",
		Unit: "pool-engine@a.r0.service", PID: 7,
		ModelID: "file:/old.gguf", ModelPath: "/old.gguf", Flags: []string{"-m", "/old.gguf"}, SlotsTotal: 4,
		SlotsFree: free}
	if second {
		r.ID, r.Unit, r.Endpoint, r.PID = "r0b", "pool-engine@a.r0b.service", "http://127.0.0.1:21001", 8
		r.ModelID, r.ModelPath = "file:/new.gguf", "/new.gguf"
	}
	return registry.Pool{ID: "a", Engine: "llamacpp", ModelID: "file:/old.gguf", Replicas: []registry.Replica{r}}
}

// both is pool a in the midst of a reload: first and second say which sides serve.
func both(first, second bool) registry.Pool {
	p := serves(4, false)
	p.Replicas = append(p.Replicas, serves(4, true).Replicas[0])
	p.Replicas[0].Ready, p.Replicas[1].Ready = first, second
	return p
}

const name = "a.r0.json"

// after lets so much time pass, and the keeper do what is due then.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestKeeper(t *testing.T) {
	type with = func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf)
	run := func(name string, f with) { keeping(t, name, nil, f) }

	run("there_exactly_while_ready", func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		r.Put(both(false, false))
		synctest.Wait()
		if s.file(t, name) != nil {
			t.Error("a file of an engine that is not ready")
		}
		time.Sleep(pause)
		r.Put(serves(4, false))
		synctest.Wait()
		if s.file(t, name) == nil {
			t.Fatal("no file although ready")
		}
		time.Sleep(pause)
		r.Put(both(false, false))
		synctest.Wait()
		if s.file(t, name) != nil {
			t.Error("the file waits, or stays, although its engine is not ready")
		}
	})
	run("removed_with_its_pool", func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		r.Put(serves(4, false))
		after(time.Second)
		r.Remove("a")
		time.Sleep(pause)
		synctest.Wait()
		if s.file(t, name) != nil || len(k.kept) != 0 || len(k.names) != 0 {
			t.Errorf("left: %v, %v, %v", s.files, k.kept, k.names)
		}
	})
	run("many_changes_are_few_writes_and_the_last_is_not_lost",
		func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
			for i := range 2000 { // for ten seconds
				r.Put(serves(i%4, false))
				time.Sleep(5 * time.Millisecond)
			}
			after(minGap)
			if n := s.written(name); n < 35 || n > 42 {
				t.Errorf("%d writes in ten seconds, want about one each %s", n, minGap)
			}
			for i, at := range s.writes[name][1:] {
				if gap := at.Sub(s.writes[name][i]); gap < minGap {
					t.Errorf("two writes within %s", gap)
				}
			}
			if f := s.file(t, name); f["slots_free"] != 3.0 {
				t.Errorf("slots_free %v, want the last, 3", f["slots_free"])
			}
		})
	run("a_flapping_engine_is_bounded_too", func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		for range 400 { // for eight seconds
			r.Put(serves(4, false))
			time.Sleep(10 * time.Millisecond)
			r.Put(both(false, false))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := s.written(name); n > 34 {
			t.Errorf("%d writes in eight seconds", n)
		}
	})
	run("what_is_said_already_is_not_written_again", func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		for range 20 {
			p := serves(4, false)
			p.LastHeartbeat = time.Now() // of a probe
			r.Put(p)
			after(time.Second)
		}
		if n := s.written(name); n != 1 {
			t.Errorf("%d writes of the same", n)
		}
	})
	run("written_at_the_end_without_waiting", func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		r.Put(serves(4, false))
		synctest.Wait()
		r.Put(serves(1, false))
		t.Cleanup(func() {
			if f := s.file(t, name); f["slots_free"] != 1.0 {
				t.Errorf("slots_free %v after the end, want 1", f["slots_free"])
			}
		})
	})
}

// TestKeeperOverReloads: the file keeps its name and replica_id, and names what serves (field case
// 31).
func TestKeeperOverReloads(t *testing.T) {
	keeping(t, "the_second_side_takes_over", nil, func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		want := func(when, model, unit string) {
			t.Helper()
			after(minGap)
			f := s.file(t, name)
			if f == nil || f["model_id"] != model || f["unit"] != unit || f["replica_id"] != "r0" || len(s.files) != 1 {
				t.Errorf("%s: %v", when, s.files)
			}
			if m, _ := f["model"].(map[string]any); m["id"] != model || "file:"+m["path"].(string) != model {
				t.Errorf("%s: model %v", when, m)
			}
		}
		r.Put(serves(4, false))
		want("before", "file:/old.gguf", "pool-engine@a.r0.service")
		r.Put(both(true, false))
		want("the new one loads", "file:/old.gguf", "pool-engine@a.r0.service")
		r.Put(both(true, true))
		want("both serve", "file:/old.gguf", "pool-engine@a.r0.service")
		r.Put(both(false, true))
		want("the old one drains", "file:/new.gguf", "pool-engine@a.r0b.service")
		r.Put(both(true, true))
		want("both serve again", "file:/new.gguf", "pool-engine@a.r0b.service")
		r.Put(serves(4, true))
		want("after", "file:/new.gguf", "pool-engine@a.r0b.service")
	})
	keeping(t, "there_is_no_moment_without_a_file", nil, func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		r.Put(serves(4, false))
		after(time.Second)
		r.Put(both(false, true))
		synctest.Wait()
		if s.file(t, name) == nil {
			t.Error("no file while the second side serves")
		}
	})
}

func TestKeeperAfterARestart(t *testing.T) {
	p := serves(4, false)
	body, err := fileOf(&p, &p.Replicas[0], nil).encode()
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]string{name: string(body), "gone.r0.json": "{}"}
	keeping(t, "files_stay_until_it_is_known_what_serves", before,
		func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
			r.Put(both(false, false)) // not probed yet
			after(time.Second)
			if len(s.files) != 2 {
				t.Errorf("before adoption: %v", s.files)
			}
			r.Put(serves(4, false))
			k.Adopted()
			after(time.Second)
			if len(s.files) != 1 || s.written(name) != 0 {
				t.Errorf("after adoption: %v, %d writes of what was there", s.files, s.written(name))
			}
		})
	keeping(t, "one_that_does_not_serve_any_longer_is_removed", before,
		func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
			r.Put(both(false, false))
			k.Adopted()
			after(time.Second)
			if len(s.files) != 0 {
				t.Errorf("left: %v", s.files)
			}
		})
	keeping(t, "what_is_not_known_yet_of_the_same_process_stays", before,
		func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
			p := serves(2, false)
			p.Replicas[0].Flags, p.Replicas[0].ModelPath = nil, ""
			r.Put(p)
			after(time.Second)
			f := s.file(t, name)
			if flags, _ := f["flags"].([]any); len(flags) != 2 || f["slots_free"] != 2.0 ||
				f["model"].(map[string]any)["path"] != "/old.gguf" {
				t.Errorf("%v", f)
			}
			p = serves(2, false)
			p.Replicas[0].Flags, p.Replicas[0].PID = nil, 99
			r.Put(p)
			after(time.Second)
			if flags, _ := s.file(t, name)["flags"].([]any); len(flags) != 0 {
				t.Errorf("another process has the flags of the former one: %v", flags)
			}
		})
	keeping(t, "a_file_that_is_no_file_of_ours_is_replaced", map[string]string{name: `{"device_mask":["GPU-1"]}`},
		func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
			r.Put(serves(4, false))
			after(time.Second)
			if f := s.file(t, name); f["unit"] == nil {
				t.Errorf("%v", f)
			}
		})
}

// TestKeeperChecks: files that another program deletes or changes are written again, and reported;
// the others are not touched.
func TestKeeperChecks(t *testing.T) {
	b := serves(4, false)
	b.ID = "b"
	for kind, harm := range map[string]func(s *shelf){
		"deleted": func(s *shelf) { delete(s.files, name) },
		"changed": func(s *shelf) { s.files[name] = "{}" },
	} {
		keeping(t, kind, nil, func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
			r.Put(serves(4, false))
			r.Put(b)
			k.Adopted()
			after(time.Second)
			before := s.Read(name)
			s.mu.Lock()
			harm(s)
			s.mu.Unlock()
			k.Check()
			after(time.Second)
			if got := s.Read(name); string(got) != string(before) || before == nil {
				t.Errorf("the file is %s, want %s", got, before)
			}
			if n := strings.Count(s.log.String(), "deleted or changed hand-off files"); n != 1 {
				t.Errorf("logged %d times: %s", n, s.log.String())
			}
			k.Check()
			after(time.Second)
			if s.written(name) != 2 || s.written("b.r0.json") != 1 {
				t.Errorf("written %d and %d times, want 2 and 1", s.written(name), s.written("b.r0.json"))
			}
		})
	}
	keeping(t, "left_by_a_former_manager", nil, func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		r.Put(serves(4, false))
		after(time.Second)
		next := NewKeeper(s, slog.New(slog.DiscardHandler))
		r.OnPool(next.Changed)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { next.Run(ctx) })
		r.Put(serves(4, false))
		next.Changed("a", func() *registry.Pool { p, _ := r.Pool("a"); return &p }())
		next.Adopted()
		after(time.Second)
		s.mu.Lock()
		delete(s.files, name)
		s.mu.Unlock()
		next.Check()
		after(time.Second)
		if s.Read(name) == nil {
			t.Error("the file is not written again")
		}
		cancel()
		running.Wait()
	})
}

func TestKeeperTriesAgain(t *testing.T) {
	keeping(t, "after_a_full_disk", nil, func(t *testing.T, r *registry.Registry, k *Keeper, s *shelf) {
		s.fails(errors.New("no space left on device"))
		r.Put(serves(4, false))
		after(2*again + time.Second)
		if n := strings.Count(s.log.String(), "no space left"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, s.log.String())
		}
		s.fails(nil)
		r.Put(serves(3, false))
		after(again)
		if f := s.file(t, name); f["slots_free"] != 3.0 {
			t.Errorf("%v", f)
		}
	})
}
