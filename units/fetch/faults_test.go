package fetch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// TestFaults: whatever goes wrong on the way, what is there afterwards is the file.
func TestFaults(t *testing.T) {
	const big, small = "hf:org/model/dir/big.safetensors", "hf:org/model/config.json"
	for name, c := range map[string]struct {
		ref    string
		faults []hub.Fault
	}{
		"stall":               {big, []hub.Fault{{On: hub.CDN, Kind: hub.Stall, N: 5000, Times: 3}}},
		"stall_before_a_byte": {big, []hub.Fault{{On: hub.CDN, Kind: hub.Stall, Times: 2}}},
		"stall_of_listing":    {big, []hub.Fault{{On: hub.Tree, Kind: hub.ServerError, Times: 2}}},
		"cut":                 {big, []hub.Fault{{On: hub.CDN, Kind: hub.Cut, N: 9001, Times: 20}}},
		"cut_small":           {small, []hub.Fault{{On: hub.Resolve, Kind: hub.Cut, N: 999, Times: 1}}},
		"cut_each_time":       {big, []hub.Fault{{On: hub.CDN, Kind: hub.Cut, N: 9001}}},
		"long":                {big, []hub.Fault{{On: hub.CDN, Kind: hub.Long, N: 100, Times: 3}}},
		"long_small":          {small, []hub.Fault{{On: hub.Resolve, Kind: hub.Long, N: 100, Times: 2}}},
		"short_small":         {small, []hub.Fault{{On: hub.Resolve, Kind: hub.Long, N: -100, Times: 2}}},
		"gzip_small":          {small, []hub.Fault{{On: hub.Resolve, Kind: hub.Gzip}}},
		"gzip_to_a_range":     {big, []hub.Fault{{On: hub.CDN, Kind: hub.Gzip}}},
		"200_to_a_range":      {big, []hub.Fault{{On: hub.CDN, Kind: hub.IgnoreRange}}},
		"200_to_one_range":    {big, []hub.Fault{{On: hub.CDN, Kind: hub.IgnoreRange, Times: 1}}},
		"another_range":       {big, []hub.Fault{{On: hub.CDN, Kind: hub.WrongRange, Times: 3}}},
		"size_unknown":        {big, []hub.Fault{{On: hub.CDN, Kind: hub.NoRangeKnown}}},
		"expired_in_mid_file": {big, []hub.Fault{{On: hub.CDN, Kind: hub.Expire, N: 20_000, Times: 4}}},
		"500":                 {big, []hub.Fault{{On: hub.CDN, Kind: hub.ServerError, Times: 6}}},
		"503":                 {big, []hub.Fault{{On: hub.CDN, Kind: hub.Unavailable, Times: 4}}},
		"429_of_the_hub":      {big, []hub.Fault{{On: hub.Resolve, Kind: hub.RetryAfter, N: 0, Times: 2}}},
		"429_of_the_other":    {big, []hub.Fault{{On: hub.CDN, Kind: hub.RetryAfter, N: 0, Times: 4}}},
		"wrong_size_once":     {big, []hub.Fault{{On: hub.Resolve, Kind: hub.LinkedSize, N: -5, Times: 1}}},
		"all_at_once": {"hf:org/model", []hub.Fault{{On: hub.CDN, Kind: hub.Cut, N: 3000, Times: 5}, {On: hub.CDN, Kind: hub.Expire, N: 100, Times: 2},
			{On: hub.CDN, Kind: hub.ServerError, Times: 2}, {On: hub.Tree, Kind: hub.ServerError, Times: 1}, {On: hub.Resolve, Kind: hub.Unavailable, Times: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model := repo()
			s := start(t, model)
			for i := range c.faults {
				s.Add(&c.faults[i])
			}
			got := s.get(t, c.ref).result(t)
			ref, err := modelref.Parse(c.ref)
			if err != nil {
				t.Fatal(err)
			}
			files := slices.DeleteFunc(slices.Clone(model.Files), func(f hub.File) bool {
				return ref.Path != "" && f.Path != ref.Path
			})
			same(t, filepath.Join(s.cache, modelDir, "snapshots", got.Commit), files...)
			s.clean(t, modelDir)
			if leaks := s.Leaks(); len(leaks) > 0 {
				t.Errorf("a token reached the other host: %q", leaks)
			}
		})
	}
}

// TestGivesUp: a server that does not recover ends the fetch, and what is on disk is kept.
func TestGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		fault  hub.Fault
		reason wire.Reason
		part   string
	}{
		"stalls":  {hub.Fault{Kind: hub.Stall}, wire.Network, "sent nothing for 100ms"},
		"fails":   {hub.Fault{Kind: hub.ServerError}, wire.Network, "failed (500)"},
		"forbids": {hub.Fault{Kind: hub.Forbidden}, wire.BadAnswer, "refuses the address that it was named by (403)"},
		"waits":   {hub.Fault{Kind: hub.RetryAfter, N: 7200}, wire.RateLimited, "limits the rate"},
		"shifts":  {hub.Fault{Kind: hub.WrongRange}, wire.BadAnswer, "another part"},
		"cuts":    {hub.Fault{Kind: hub.Cut}, wire.Network, "cut the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, repo())
			c.fault.On = hub.CDN
			s.Add(&c.fault)
			set := quick()
			set.tries = 3
			if c.fault.Kind == hub.Stall {
				set.stall = 100 * time.Millisecond
			}
			r := s.request("hf:org/model/dir/big.safetensors")
			f := s.fetch(t.Context(), r, Options{}, set).failed(t, c.reason, c.part)
			if name == "waits" && f.Pause != 2*time.Hour {
				t.Errorf("pause %v", f.Pause)
			}
			if left, _ := filepath.Glob(filepath.Join(s.cache, modelDir, "blobs", "*"+incomplete)); len(left) != 1 {
				t.Errorf("incomplete files: %q", left)
			}
		})
	}
}

// TestWrongContent: a file that was changed on its way is set aside and named, and the engine never
// gets it. The next attempt begins from nothing.
func TestWrongContent(t *testing.T) {
	model := repo()
	s := start(t, model)
	s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Corrupt, N: 150_000, File: "model-Q8_0.gguf", Times: 100})
	blob := filepath.Join(s.cache, modelDir, "blobs", model.Files[6].ID())
	s.get(t, "hf:org/model:Q8_0").failed(t, wire.DigestMismatch, blob+".wrong", model.Files[6].ID())
	placed := filepath.Join(s.cache, modelDir, "snapshots", model.Commit, "model-Q8_0.gguf")
	for _, name := range []string{blob, blob + incomplete, blob + ranges, placed} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	again := start(t, repo())
	again.cache = s.cache
	got := again.get(t, "hf:org/model:Q8_0").result(t)
	same(t, filepath.Dir(got.Path), model.Files[6])
}

// TestDamagedRest: what a former run left and a power cut damaged is found by the digest, and
// fetched again.
func TestDamagedRest(t *testing.T) {
	model := repo()
	rest := func(change func(data, state string)) {
		t.Helper()
		s := start(t, model)
		ctx, cancel := context.WithCancel(t.Context())
		s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Slow, N: 400_000})
		r := s.request("hf:org/model/dir/big.safetensors")
		blob := filepath.Join(s.cache, modelDir, "blobs", model.Files[3].ID())
		go func() {
			defer cancel()
			begun(ctx, blob)
		}()
		s.fetch(ctx, r, Options{}, quick())
		change(blob+incomplete, blob+ranges)
		next := start(t, model)
		next.cache = s.cache
		got := next.get(t, r.Ref).result(t)
		same(t, filepath.Join(next.cache, modelDir, "snapshots", got.Commit), model.Files[3])
		next.clean(t, modelDir)
	}
	rest(func(string, string) {})
	rest(func(data, _ string) { overwrite(t, data, 0, make([]byte, 4096)) })
	rest(func(data, _ string) { remove(t, data) })
	rest(func(_, state string) { remove(t, state) })
	rest(func(_, state string) { overwrite(t, state, 0, []byte("pool-fetch 9 ")) })
	rest(func(_, state string) {
		info, err := os.Stat(state)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, state, info.Size(), []byte("1111"))
	})
	rest(func(data, _ string) {
		if err := os.Truncate(data, 5000); err != nil {
			t.Fatal(err)
		}
	})
}

// begun waits until some pieces of a file are there.
func begun(ctx context.Context, blob string) {
	for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile(blob + ranges)
		if _, done, _ := strings.Cut(string(state), "\n"); err == nil && strings.Count(done, "1") > 8 {
			return
		}
	}
}

func overwrite(t *testing.T, name string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(data, at)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// TestResumes: a fetch that was interrupted goes on where it was, and says so.
func TestResumes(t *testing.T) {
	model := repo()
	s := start(t, model)
	s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Slow, N: 400_000})
	ctx, cancel := context.WithCancel(t.Context())
	r := s.request("hf:org/model/dir/big.safetensors")
	blob := filepath.Join(s.cache, modelDir, "blobs", model.Files[3].ID())
	go func() {
		defer cancel()
		begun(ctx, blob)
	}()
	if f := AsFailure(s.fetch(ctx, r, Options{}, quick()).err); f.Reason != wire.Interrupted {
		t.Fatalf("interrupted: %v", f)
	}
	next := start(t, model)
	next.cache = s.cache
	got := next.get(t, r.Ref)
	got.result(t)
	if plan := got.events[0]; plan.Present < 8*16<<10 || plan.Total != 1<<20+17 {
		t.Errorf("the plan is %+v", plan)
	}
	for _, asked := range next.Requests() {
		if strings.Contains(asked, "cdn.test") && strings.HasSuffix(asked, " bytes=0-16383") {
			t.Errorf("fetched again: %s", asked)
		}
	}
	same(t, filepath.Join(s.cache, modelDir, "snapshots", model.Commit), model.Files[3])
}

// TestTwoClients: of two fetches into one directory the second waits, and finds all there.
func TestTwoClients(t *testing.T) {
	model := repo()
	s := start(t, model)
	s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Slow, N: 2_000_000})
	done := make(chan outcome, 2)
	for range 2 {
		go func() { done <- s.fetch(t.Context(), s.request("hf:org/model:Q8_0"), Options{}, quick()) }()
	}
	for range 2 {
		o := <-done
		o.result(t)
	}
	bytes := 0
	for _, asked := range s.Requests() {
		if strings.HasPrefix(asked, "GET cdn.test") {
			bytes++
		}
	}
	if bytes > 300_000/(16<<10)+1 {
		t.Errorf("%d requests for parts: fetched twice", bytes)
	}
	other, err := openCache(s.request("hf:org/model"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.hold(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	set := quick()
	set.lockWait = 10 * time.Millisecond
	s.fetch(t.Context(), s.request("hf:org/model:Q8_0"), Options{}, set).failed(t, wire.Busy, "another program")
}

// TestLockOfOthers: a user who may read the lock could hold it, and no one else would download. One
// that was made so is closed to others when it is next used.
func TestLockOfOthers(t *testing.T) {
	s := start(t, repo())
	r := s.request("hf:org/model:Q8_0")
	for _, mode := range []os.FileMode{0, 0o644, 0o666} {
		lock := filepath.Join(r.CacheDir, r.Directory, ".pool-fetch.lock")
		if mode != 0 { // else the download makes it
			if err := os.Chmod(lock, mode); err != nil {
				t.Fatal(err)
			}
		}
		s.fetch(t.Context(), r, Options{}, quick()).result(t)
		info, err := os.Stat(lock)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the lock has mode %o, before %o", info.Mode().Perm(), mode)
		}
	}
}

// TestRate: all connections together keep to the rate.
func TestRate(t *testing.T) {
	s := start(t, repo())
	r := s.request("hf:org/model:Q8_0")
	r.RateLimit = 600_000
	begin := time.Now()
	got := s.fetch(t.Context(), r, Options{}, quick())
	got.result(t)
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("300 kB at 600 kB/s took %v", took)
	}
	n := 0
	for _, e := range got.events {
		if e.Kind == wire.Progress {
			n++
			if e.Total != 300_000 || e.Bytes > e.Total || e.Bytes < e.Total && e.File != "model-Q8_0.gguf" {
				t.Errorf("progress %+v", e)
			}
		}
	}
	if n == 0 {
		t.Error("no progress was printed")
	}
}
