package metrics

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// countAll counts one of everything that is counted for a pool.
func countAll(m *Metrics, id string) {
	p := registry.Pool{ID: id}
	m.Restarted(p, "crash", 1)
	m.RestartScheduled(p, "crash", time.Second)
	m.Probed(p, "timeout", time.Second)
	m.Drained(p, time.Second, true)
	m.Breaker(p, "open")
	m.Storm(p, "crash")
	m.Reloaded(p, time.Second, "")
	m.Reloaded(p, time.Second, "load")
}

// counted are the metrics of countAll.
var counted = []string{
	"engine_restarts_total", "restart_scheduled_total", "health_probe_failures_total", "health_probe_duration_ms_count",
	"drain_duration_ms_count", "drain_forced_total", "circuit_breaker_open_total", "restart_storm_total",
	"reload_duration_ms_count", "reload_success_total", "reload_failure_total", "backoff_delay_seconds_count",
}

func TestWhatIsCountedForAPool(t *testing.T) {
	t.Run("has_its_pool_id_and_goes_with_it", func(t *testing.T) {
		reg := registry.New()
		m := newMetrics(reg)
		reg.Put(serving("gemma", 4, 4))
		reg.Put(serving("llama3", 4, 4))
		countAll(m, "gemma")
		countAll(m, "llama3")
		got := scrape(t, m)
		for _, name := range counted {
			if !strings.Contains(got, "\n"+name+`{pool_id="gemma"`) ||
				!strings.Contains(got, "\n"+name+`{pool_id="llama3"`) {
				t.Errorf("%s has no series of each pool", name)
			}
		}
		reg.Remove("gemma")
		if got = scrape(t, m); strings.Contains(got, "gemma") {
			t.Errorf("series of a removed pool are left:\n%s", got)
		}
		for _, name := range counted {
			if !strings.Contains(got, "\n"+name+`{pool_id="llama3"`) {
				t.Errorf("%s of the other pool went too", name)
			}
		}
	})
	t.Run("after_its_removal_is_dropped", func(t *testing.T) {
		reg := registry.New()
		m := newMetrics(reg)
		reg.Put(serving("gemma", 4, 4))
		reg.Remove("gemma")
		countAll(m, "gemma")
		if got := scrape(t, m); strings.Contains(got, "gemma") {
			t.Errorf("series of a removed pool are left:\n%s", got)
		}
	})
	t.Run("is_0_before_the_first", func(t *testing.T) {
		reg := registry.New()
		m := newMetrics(reg)
		reg.Put(serving("gemma", 4, 4))
		got := scrape(t, m)
		for _, name := range []string{"drain_forced_total", "circuit_breaker_open_total", "reload_success_total"} {
			if !strings.Contains(got, "\n"+name+`{pool_id="gemma"} 0`+"\n") {
				t.Errorf("%s is missing:\n%s", name, got)
			}
		}
	})
	t.Run("is_bounded_and_a_removed_pool_makes_room", func(t *testing.T) {
		reg := registry.New()
		m := newMetrics(reg)
		for i := range maxPools + 44 {
			id := fmt.Sprintf("pool-%03d", i)
			reg.Put(serving(id, 1, 1))
			countAll(m, id)
		}
		got := scrape(t, m)
		for _, name := range counted {
			if n := strings.Count(got, "\n"+name+"{"); n != maxPools+1 {
				t.Errorf("%d series of %s, want %d and one of the others", n, name, maxPools)
			}
		}
		if !strings.Contains(got, `circuit_breaker_open_total{pool_id=""} 44`) {
			t.Error("what exceeds the budget is not counted")
		}
		reg.Remove("pool-000")
		countAll(m, "pool-299")
		if got := scrape(t, m); !strings.Contains(got, `circuit_breaker_open_total{pool_id="pool-299"} 1`) {
			t.Error("a removed pool makes no room")
		}
	})
}

// TestBreakerState: the numbers are fixed by contract.
func TestBreakerState(t *testing.T) {
	for state, want := range map[string]int{"": 0, "closed": 0, "open": 1, "half-open": 2} {
		reg := registry.New()
		m := newMetrics(reg)
		p := crashed("gemma")
		p.Replicas[0].Breaker = state
		reg.Put(registry.Aggregate(p))
		if line := fmt.Sprintf("circuit_breaker_state{pool_id=\"gemma\"} %d\n", want); !strings.Contains(scrape(t, m),
			line) {
			t.Errorf("%q: no %s", state, line)
		}
	}
}

func TestReasonsBeginWithZero(t *testing.T) {
	reg, m := ofEngines()
	reg.Put(engineOf("a"))
	for name, want := range map[string]int{
		"restart_scheduled_total": len(someReasons().Restarts), "health_probe_failures_total": len(someReasons().Probes),
		"reload_failure_total": len(someReasons().Reloads), "lease_rejections_total": len(someReasons().Leases),
		"api_requests_denied_total": len(someReasons().Denials), "api_connections_limited_total": 4,
	} {
		if got := lines(t, m, name); strings.Count(got, "} 0") != want {
			t.Errorf("want %d series of %s that are 0:\n%s", want, name, got)
		}
	}
	for i := range 100 {
		m.RestartScheduled(registry.Pool{ID: "a"}, fmt.Sprintf("new %d", i), time.Second)
	}
	m.RestartScheduled(registry.Pool{ID: "a"}, "oom", time.Second)
	got := lines(t, m, "restart_scheduled_total")
	if n := strings.Count(got, "\n") + 1; n > maxReasons ||
		!strings.Contains(got, `reason="oom"} 1`) || !strings.Contains(got, `reason="other"} 98`) {
		t.Errorf("%d series, want at most %d:\n%s", n, maxReasons, got)
	}
}

// TestFailedDownloadsBeginWithZero: rate() sees the first failure, and one of a reason that is not
// in the list is counted with others.
func TestFailedDownloadsBeginWithZero(t *testing.T) {
	list := []string{"r01", "r02", "r03", "r04", "r05", "r06", "r07", "r08", "r09", "r10", "r11", "r12", "r13", "r14"}
	m := New(Options{Registry: registry.New(), Reasons: Reasons{Fetches: list}, Log: slog.New(slog.DiscardHandler)})
	got := lines(t, m, "model_fetch_failures_total")
	if strings.Count(got, " 0") != len(list)+1 || !strings.Contains(got, `{reason="r14"} 0`) ||
		!strings.Contains(got, `{reason="other"} 0`) {
		t.Errorf("at the beginning:\n%s", got)
	}
	for _, reason := range []string{"r14", "internal", "unit"} {
		m.Fetched(reason, 0, 0, time.Second)
	}
	got = lines(t, m, "model_fetch_failures_total")
	if !strings.Contains(got, `{reason="r14"} 1`) || !strings.Contains(got, `{reason="other"} 2`) ||
		strings.Contains(got, "internal") {
		t.Errorf("after three failures:\n%s", got)
	}
}
