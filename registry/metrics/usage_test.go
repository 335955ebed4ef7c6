package metrics

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// tree is a fake of the cgroups of units.
type tree struct {
	used  map[string]Usage
	reads int
}

func (c *tree) read(unit string) (Usage, bool) {
	c.reads++
	u, ok := c.used[unit]
	return u, ok
}

// set makes a unit's cgroup, with that number and these OOM kills.
func (c *tree) set(unit string, cgroup, kills uint64) {
	bytes, pressure := uint64(1<<20), 0.25
	c.used[unit] = Usage{Cgroup: cgroup, MemoryBytes: &bytes, Pressure: &pressure, OOMKills: &kills}
}

// sameUsage gives every unit the same.
func sameUsage(unit string) (Usage, bool) {
	c := tree{used: make(map[string]Usage)}
	c.set(unit, 1, 0)
	return c.read(unit)
}

func withUsage() (*registry.Registry, *tree, *Metrics) {
	reg, cgroups := registry.New(), &tree{used: make(map[string]Usage)}
	m := New(Options{Registry: reg, Version: "1.2.3", Engines: []string{"llamacpp"}, Log: slog.New(slog.DiscardHandler),
		Usage: cgroups.read, Reasons: someReasons()})
	return reg, cgroups, m
}

func engineOf(id string) registry.Pool {
	return registry.Aggregate(registry.Pool{ID: id, Engine: "llamacpp", Replicas: []registry.Replica{
		{ID: "r0", Unit: id + ".service", State: registry.StateReady, Ready: true, Live: true, EngineVersion: "b1"}}})
}

// lines returns the lines of a scrape that begin with a name.
func lines(t *testing.T, m *Metrics, name string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(scrape(t, m)) {
		if strings.HasPrefix(line, name) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, "\n")
}

const labelsOfA = `{engine="llamacpp",engine_version="b1",pool_id="a",replica_id="r0"}`

func TestEngineMemory(t *testing.T) {
	reg, cgroups, m := withUsage()
	reg.Put(engineOf("a"))
	reg.Put(engineOf("stopped"))
	cgroups.set("a.service", 1, 0)
	if cgroups.reads > 0 {
		t.Error("cgroups are read while nothing scrapes")
	}
	want := "engine_memory_bytes" + labelsOfA + " 1.048576e+06\nengine_memory_pressure_ratio" + labelsOfA + " 0.25"
	if got := lines(t, m, "engine_memory"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := lines(t, m, "engine_oom"); got != "engine_oom_kills_total"+labelsOfA+" 0" {
		t.Error(got)
	}
	cgroups.used["a.service"] = Usage{Cgroup: 1}
	if got := lines(t, m, "engine_memory"); got != "" {
		t.Errorf("a host without the controller: %s", got)
	}
	reg.Remove("a")
	if got := lines(t, m, "engine_oom"); got != "" {
		t.Errorf("of a removed pool: %s", got)
	}
	reg.Put(engineOf("a"))
	cgroups.set("a.service", 9, 0)
	if got := lines(t, m, "engine_oom"); got != "engine_oom_kills_total"+labelsOfA+" 0" {
		t.Errorf("of a pool that came again: %s", got)
	}
}

// TestOOMKills: each kill is counted once, whether a scrape, the end of the engine or both tell of
// it, over any number of cgroups.
func TestOOMKills(t *testing.T) {
	const unit = "a.service"
	scraped := func(cgroup, kills uint64) func(*registry.Registry, *tree, *Metrics) {
		return func(_ *registry.Registry, c *tree, m *Metrics) { c.set(unit, cgroup, kills); m.prom.Gather() }
	}
	gone := func(_ *registry.Registry, c *tree, _ *Metrics) { delete(c.used, unit) }
	ended := func(code registry.Code) func(*registry.Registry, *tree, *Metrics) {
		return func(reg *registry.Registry, _ *tree, _ *Metrics) {
			reg.Note(registry.Event{Kind: registry.KindCrash, PoolID: "a", ReplicaID: "r0",
				Failure: registry.Fail(code, "", "")})
		}
	}
	oom := ended(registry.CodeEngineOOM)
	cases := []struct {
		name  string
		steps []func(*registry.Registry, *tree, *Metrics)
		want  int
	}{
		{"none", []func(*registry.Registry, *tree, *Metrics){scraped(1, 0), ended(registry.CodeEngineCrashed)}, 0},
		{"of_a_process_that_was_not_the_engine", []func(*registry.Registry, *tree, *Metrics){scraped(1, 0), scraped(1, 1), scraped(1, 1)}, 1},
		{"the_cgroup_went_before_a_scrape", []func(*registry.Registry, *tree, *Metrics){scraped(1, 0), gone, oom, scraped(2, 0)}, 1},
		{"nothing_was_ever_scraped", []func(*registry.Registry, *tree, *Metrics){gone, oom, oom}, 2},
		{"a_scrape_was_first", []func(*registry.Registry, *tree, *Metrics){scraped(1, 1), gone, oom, scraped(2, 0)}, 1},
		{"a_scrape_saw_the_next_cgroup_first", []func(*registry.Registry, *tree, *Metrics){scraped(1, 1), scraped(2, 0), oom}, 1},
		{"the_cgroup_stays_over_a_restart", []func(*registry.Registry, *tree, *Metrics){scraped(1, 1), oom, scraped(1, 2), oom, scraped(1, 2)}, 2},
		{"three_cgroups", []func(*registry.Registry, *tree, *Metrics){scraped(1, 1), oom, scraped(2, 1), oom, scraped(3, 1), oom}, 3},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reg, cgroups, m := withUsage()
			reg.Put(engineOf("a"))
			for _, step := range c.steps {
				step(reg, cgroups, m)
			}
			if got, want := lines(t, m, "engine_oom"),
				fmt.Sprintf("engine_oom_kills_total%s %d", labelsOfA, c.want); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestEngineMemoryIsBounded(t *testing.T) {
	reg, cgroups, m := withUsage()
	for i := range maxPools + 3 {
		id := fmt.Sprintf("p%04d", i)
		reg.Put(engineOf(id))
		cgroups.set(id+".service", uint64(i+1), 0)
	}
	if got := strings.Count(lines(t, m, "engine_memory_bytes"), "\n") + 1; got != maxPools {
		t.Errorf("%d series", got)
	}
	if got := lines(t, m, "engine_replicas_omitted"); got != "engine_replicas_omitted 3" {
		t.Error(got)
	}
}

// someReasons are as many, and as long, as those of pool-managerd.
func someReasons() Reasons {
	return Reasons{
		Leases:  []string{"draining", "unready", "exhausted", "lost", "unknown", "store"},
		Denials: []string{"missing_token", "bad_token", "forbidden", "engine", "origin"},
		Fetches: []string{"killed", "not_found", "network"},
		Restarts: []string{"crash", "oom", "cuda_oom", "cuda", "driver", "memory", "load", "start", "stop", "health",
			"model", "config"},
		Probes: []string{"refused", "timeout", "status", "reset", "http", "body", "grpc", "tcp", "generation",
			"other"},
		Reloads: []string{"staging", "fit", "load", "health", "drain_timeout", "cancelled"},
	}
}

// TestLayersOnGPUs: how much of a model and of its draft model is on the GPUs can be watched, for
// as long as the engine that logged it runs.
func TestLayersOnGPUs(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers []registry.Layers
		want   []string // values by the model: on the GPUs, of all
	}{
		{"nothing_was_logged", nil, nil},
		{"a_part_is_on_the_gpu", []registry.Layers{{OnGPU: 10, Of: 33}}, []string{"model 10 33"}},
		{"none_is", []registry.Layers{{OnGPU: 0, Of: 33}}, []string{"model 0 33"}},
		{"with_a_draft_model", []registry.Layers{{OnGPU: 33, Of: 33}, {OnGPU: 0, Of: 17}}, []string{"draft 0 17", "model 33 33"}},
		{"further_models_have_no_series", make([]registry.Layers, 9), []string{"draft 0 0", "model 0 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg, _, m := withUsage()
			p := engineOf("a")
			p.Replicas[0].GPULayers = c.layers
			reg.Put(p)
			var onGPU, all []string
			for _, w := range c.want {
				f := strings.Fields(w)
				labels := `{engine="llamacpp",engine_version="b1",model="` + f[0] + `",pool_id="a",replica_id="r0"} `
				onGPU = append(onGPU, "engine_gpu_layers"+labels+f[1])
				all = append(all, "engine_model_layers"+labels+f[2])
			}
			if got := lines(t, m, "engine_gpu_layers"); got != strings.Join(onGPU, "\n") {
				t.Errorf("on the GPUs:\n%s", got)
			}
			if got := lines(t, m, "engine_model_layers"); got != strings.Join(all, "\n") {
				t.Errorf("of all:\n%s", got)
			}
		})
	}
}
