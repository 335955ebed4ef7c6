package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/perf"
	"github.com/pool-managerd/pool-managerd/units/perf/baselines"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// world stands in for engines and their host, in virtual time.
type world struct {
	t     *testing.T
	bench *Bench
	reg   *registry.Registry
	store *baselines.Store

	mu       sync.Mutex
	first    time.Duration // until the first output
	gap      time.Duration // between outputs
	jitter   []float64     // factors of gap, one for each request in turn
	status   int           // of each answer; 0: 200
	hangs    bool          // nothing is answered
	uncounts bool          // it reports no number of tokens
	prompts  []string
	open     int // requests under way
	most     int
	pressure float64
	outcomes map[string]int
	leases   map[string]int
	replicas map[string]*registry.Replica // by pool
	edit     map[string]func(*registry.Pool)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, first: 200 * time.Millisecond, gap: 25 * time.Millisecond, outcomes: make(map[string]int),
		leases: make(map[string]int), replicas: make(map[string]*registry.Replica),
		edit: make(map[string]func(*registry.Pool)), reg: registry.New()}
	w.store = baselines.Open(filepath.Join(t.TempDir(), "performance.db"), time.Now,
		func(r boltfile.Report) { t.Errorf("%+v", r) })
	t.Cleanup(func() { _ = w.store.Close() })
	w.run()
	return w
}

// run starts a Bench, as a new manager does.
func (w *world) run() (stop func()) {
	w.bench = New(Options{Registry: w.reg, Store: w.store, Log: slog.New(slog.DiscardHandler),
		Client: &http.Client{Transport: w}, Pressure: func() (float64, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.pressure, true
		}, Ended: func(outcome string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.outcomes[outcome]++
		}})
	bench := w.bench
	w.reg.Hint(bench.Hints)
	w.reg.OnPool(bench.Changed)
	w.reg.CountLeases(func(pool, _ string) int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.leases[pool]
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		bench.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	w.t.Cleanup(stop)
	return stop
}

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	var ask struct {
		Prompt string `json:"prompt"`
		Tokens int    `json:"max_tokens"`
		Stream bool   `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || !ask.Stream || r.URL.Path != "/v1/completions" {
		return nil, fmt.Errorf("%s: %w", r.URL, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prompts = append(w.prompts, ask.Prompt)
	if w.status != 0 {
		return &http.Response{StatusCode: w.status, Body: io.NopCloser(strings.NewReader("no such thing"))}, nil
	}
	gap := w.gap
	if n := len(w.jitter); n > 0 {
		gap = time.Duration(float64(gap) * w.jitter[len(w.prompts)%n])
	}
	w.open++
	w.most = max(w.most, w.open)
	read, write := io.Pipe()
	go w.answer(r.Context(), write, ask.Tokens, w.first, gap, w.hangs, w.uncounts)
	return &http.Response{StatusCode: http.StatusOK, Body: read}, nil
}

// answer streams so many tokens.
func (w *world) answer(ctx context.Context, to *io.PipeWriter, tokens int, first, gap time.Duration,
	hangs, uncounts bool) {
	defer w.with(func() { w.open-- })
	defer to.Close()
	stopped := context.AfterFunc(ctx, func() { _ = to.CloseWithError(ctx.Err()) })
	defer stopped()
	wait := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	if hangs && !wait(time.Hour) || !wait(first) {
		return
	}
	for n := range tokens {
		if n > 0 && !wait(gap) {
			return
		}
		fmt.Fprintf(to, "data: {\"choices\":[{\"text\":\"x\"}]}\n\n")
	}
	if !uncounts {
		fmt.Fprintf(to, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":%d}}\n\n", tokens)
	}
	fmt.Fprint(to, "data: [DONE]\n\n")
}

func (w *world) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// publish writes a pool's status as the main loop does.
func (w *world) publish(id string) {
	p := registry.Pool{ID: id, Engine: engine.LlamaCpp, Wanted: true}
	w.with(func() {
		if r := w.replicas[id]; r != nil {
			p.Replicas = []registry.Replica{*r}
		}
		if w.edit[id] != nil {
			w.edit[id](&p)
		}
	})
	w.reg.Put(registry.Aggregate(p))
}

// change edits a replica's status.
func (w *world) change(id string, f func(*registry.Replica)) {
	w.with(func() { f(w.replicas[id]) })
	w.publish(id)
}

// serves has a pool serve a model, in a new run.
func (w *world) serves(id, model string, slots int, edit ...func(*Target)) Target {
	w.t.Helper()
	run := fmt.Sprintf("run %d", time.Now().UnixNano())
	w.with(func() {
		w.replicas[id] = &registry.Replica{ID: "r0", State: registry.StateReady, Ready: true, Live: true,
			SlotsTotal: slots, InvocationID: run}
	})
	a, _ := engine.For(engine.LlamaCpp)
	ask, _ := engine.CompletionOf(a, pool.Pool{ID: id})
	target := Target{Pool: id, Replica: "r0", Name: "r0", Run: run, Endpoint: "http://engine", Ask: &ask,
		Automatic: true, Identity: perf.Identity{Engine: engine.LlamaCpp, Version: "1", Model: model, Contents: model}}
	for _, f := range edit {
		f(&target)
	}
	w.publish(id)
	w.bench.Serves(target)
	return target
}

// after lets so much time pass.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lease takes a lease of a pool, as the API does, and releases it.
func (w *world) lease(id string) (release func()) {
	w.bench.Wanted(id)
	w.with(func() { w.leases[id]++ })
	w.reg.LeasesChanged(id)
	return func() {
		w.with(func() { w.leases[id]-- })
		w.reg.LeasesChanged(id)
	}
}

func (w *world) requests() (all, open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.prompts), w.open
}

// hint is what the registry shows of a pool.
func (w *world) hint(id string) (tokens, first float64) {
	p, ok := w.reg.Pool(id)
	if !ok {
		w.t.Fatalf("there is no pool %s", id)
	}
	return p.TokensPerS, p.FirstTokenMS
}

func (w *world) wantHint(id string, tokens, first float64) {
	w.t.Helper()
	if t, f := w.hint(id); t != tokens || f != first {
		w.t.Errorf("%s shows %v tokens/s and %v ms, want %v and %v", id, t, f, tokens, first)
	}
}

// slower are the events of that kind.
func (w *world) slower() (causes []string) {
	list, _ := w.reg.Events(0)
	for _, e := range list {
		if e.Kind == registry.KindSlower {
			causes = append(causes, e.Cause)
		}
	}
	return causes
}
