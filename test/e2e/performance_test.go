//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// bench is what GET /v1/pools/{id}/bench answers.
type bench struct {
	Run *struct {
		State     string `json:"state"`
		LastError string `json:"error"`
	} `json:"run"`
	Replicas []struct {
		Version string `json:"engine_version"`
		Waits   string `json:"waits"`
		Last    *struct {
			MeasuredMS int64 `json:"measured_ms"`
			One        struct {
				TokensPerS   float64 `json:"tokens_per_s"`
				FirstTokenMS float64 `json:"first_token_ms"`
			} `json:"one"`
			All *struct {
				Streams int `json:"streams"`
			} `json:"all"`
			Disturbed string `json:"disturbed"`
		} `json:"last"`
	} `json:"replicas"`
}

func (s *site) bench(ctx context.Context, id string) (b bench, err error) {
	a, err := s.Get(ctx, "/v1/pools/"+id+"/bench")
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(a.Body, &b); err != nil || len(b.Replicas) != 1 {
		return b, fmt.Errorf("%w: %s", err, a.Body)
	}
	return b, nil
}

// measured waits until a pool shows performance hints.
func (s *site) measured(id string) (tokens, first float64) {
	s.t.Helper()
	ctx, cancel := s.within(4 * time.Minute) // on a host that is busy all the time, the third is shown
	defer cancel()
	for {
		var p struct {
			Tokens *float64 `json:"perf_tokens_per_s"`
			First  *float64 `json:"first_token_ms"`
		}
		a, err := s.Get(ctx, "/v1/pools/"+id)
		if err == nil && json.Unmarshal(a.Body, &p) == nil && p.Tokens != nil && p.First != nil {
			return *p.Tokens, *p.First
		}
		select {
		case <-ctx.Done():
			b, err := s.bench(s.t.Context(), id)
			s.t.Fatalf("no hints: %+v, %v", b, err)
		case <-time.After(time.Second):
		}
	}
}

// TestPerformance: a real llama-server is measured after it became ready, and not again after a
// restart; poolctl bench measures it and prints a table; a lease that is asked for during a
// benchmark is granted at once.
func TestPerformance(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	file := llama().table("hints", "benchmark = true").
		table("health", `interval = "500ms"`, `timeout = "500ms"`)
	h.pool("a", file)
	h.reload()
	h.wait("a", isReady)
	tokens, first := h.measured("a")
	ctx, cancel := h.within(2 * time.Minute)
	defer cancel()
	kept, err := h.bench(ctx, "a")
	if last := kept.Replicas[0].Last; err != nil || last == nil || last.All == nil || last.All.Streams != 2 {
		t.Fatalf("kept: %+v, %v", kept, err)
	}
	t.Logf("%v tokens/s, first token after %v ms, disturbed %q", tokens, first, kept.Replicas[0].Last.Disturbed)
	if shown, err := h.engineMetricNow(ctx, "perf_tokens_per_s", "a"); err != nil || shown <= 0 {
		t.Errorf("perf_tokens_per_s is %v: %v", shown, err)
	}
	if out := h.must("poolctl", "status", "a"); !strings.Contains(out, "Performance:") ||
		!strings.Contains(out, "tokens/s, first token after") {
		t.Error(out)
	}

	out := h.must("poolctl", "bench", "a")
	for _, part := range []string{"r0: llamacpp ", "on the CPU", "STREAMS  FIRST TOKEN", "measured ", "before: "} {
		if !strings.Contains(out, part) {
			t.Errorf("poolctl bench lacks %q:\n%s", part, out)
		}
	}
	t.Log("\n" + out)
	again, err := h.bench(ctx, "a")
	if err != nil || again.Run == nil || again.Run.State != "done" ||
		again.Replicas[0].Last.MeasuredMS <= kept.Replicas[0].Last.MeasuredMS {
		t.Errorf("after poolctl bench: %+v, %v", again, err)
	}

	h.notAgain(ctx, file, again)
	h.yields(ctx)
}

// notAgain changes what makes no difference to the speed, so that the pool's engine is another
// process, and restarts the manager. Both know the measurement.
func (s *site) notAgain(ctx context.Context, file poolFile, before bench) {
	s.t.Helper()
	p := s.wait("a", isReady)
	s.pool("a", file.with("port = 24011"))
	s.reload()
	s.wait("a", isReady, newRun(p.Replicas[0].PID))
	s.must("systemctl", "restart", "pool-managerd.service")
	s.wait("a", isReady)
	time.Sleep(10 * time.Second) // twice as long as an engine is left alone after it is ready
	s.measured("a")
	now, err := s.bench(ctx, "a")
	if before.Replicas[0].Last.Disturbed != "" {
		s.t.Log("the measurement was disturbed, so that it is repeated: " + before.Replicas[0].Last.Disturbed)
		return
	}
	if err != nil || now.Replicas[0].Last == nil || now.Replicas[0].Waits != "" ||
		now.Replicas[0].Last.MeasuredMS != before.Replicas[0].Last.MeasuredMS {
		s.t.Errorf("it was measured again: %+v, %v; before %+v", now, err, before)
	}
}

// yields asks for a lease while an engine that is slow is measured.
func (s *site) yields(ctx context.Context) {
	s.t.Helper()
	slow := poolFile{keys: []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`, `devices = []`,
		`ctx = 2048`, `slots = 2`}}
	s.pool("slow", slow.table("limits", `cpu_quota = "10%"`))
	s.reload()
	s.wait("slow", isReady)
	s.answer(202, "POST", "/v1/pools/slow/bench", "")
	for {
		b, err := s.bench(ctx, "slow")
		if err == nil && b.Run != nil && b.Run.State == "running" {
			break
		}
		if ctx.Err() != nil || b.Run != nil && b.Run.State != "waiting" {
			s.t.Fatalf("the benchmark does not run: %+v, %v", b, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	began := time.Now()
	s.answer(201, "POST", "/v1/pools/slow/leases", `{"holder":"test","ttl_ms":20000}`)
	took := time.Since(began)
	b, err := s.bench(ctx, "slow")
	if err != nil || b.Run == nil || b.Run.State != "cancelled" && b.Run.State != "running" {
		s.t.Errorf("after a lease: %+v, %v", b.Run, err)
	}
	s.t.Logf("the lease took %s", took)
	if took > 2*time.Second { // it waits for nothing; a loaded host may be slow
		s.t.Errorf("the lease took %s", took)
	}
	s.eventually(func(ctx context.Context) error {
		b, err := s.bench(ctx, "slow")
		if err == nil && (b.Run.State != "cancelled" || !strings.Contains(b.Run.LastError, "lease")) {
			err = fmt.Errorf("after a lease: %+v", b.Run)
		}
		return err
	})
	ctx, cancel := s.within()
	defer cancel()
	r := s.M.Run(ctx, "poolctl", "bench", "slow")
	if r.ExitCode != 1 || !strings.Contains(r.Stderr+r.Stdout, "BENCH_REFUSED") {
		s.t.Errorf("a benchmark beside a lease: %+v", r)
	}
}
