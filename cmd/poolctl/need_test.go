package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestNeedIsShown: status and fit show what the daemon knows of a pool's memory, and where that is
// from.
func TestNeedIsShown(t *testing.T) {
	const gib = 1 << 30
	need := func(n *registry.Need) registry.Replica { return registry.Replica{ID: "r0", Name: "r0", Need: n} }
	second := func(n *registry.Need) registry.Replica { return registry.Replica{ID: "r1", Name: "r1", Need: n} }
	measured := &registry.Need{Source: "measured", VRAM: 5 * gib}
	raised := &registry.Need{Source: "measured", VRAM: 6 * gib, Host: gib, RaisedAfter: registry.CodeCUDAOOM,
		RaisedUntil: clock.Add(9 * time.Minute)}
	for _, c := range []struct {
		name     string
		replicas []registry.Replica
		want     []string // of status, and of fit behind "The need that the daemon knows:"
	}{
		{"nothing_is_known", []registry.Replica{need(nil)}, nil},
		{"measured", []registry.Replica{need(measured)}, []string{"5.0 GiB of GPU memory (measured)"}},
		{"raised", []registry.Replica{need(raised)}, []string{"6.0 GiB of GPU memory, 1.0 GiB of main memory (measured; raised after CUDA_OOM for 9 min)"}},
		{"the_same_of_two", []registry.Replica{need(measured), second(measured)}, []string{"r0: 5.0 GiB of GPU memory (measured)"}},
		{"another_of_the_second", []registry.Replica{need(measured), second(raised)}, []string{"r0: 5.0 GiB of GPU memory (measured)",
			"r1: 6.0 GiB of GPU memory, 1.0 GiB of main memory (measured; raised after CUDA_OOM for 9 min)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newFitHost(t, twoGPUs())
			h.reg.Put(registry.Pool{ID: "split", Engine: "llamacpp", Wanted: true, Replicas: c.replicas})
			status := h.run("status", "split")
			fit, _ := h.fit(t, "split")
			const inFit = "The need that the daemon knows: "
			if strings.Count(status.out, "(measured") != len(c.want) || strings.Count(fit, inFit) != len(c.want) {
				t.Errorf("status:\n%s\nfit:\n%s", status.out, fit)
			}
			for _, want := range c.want {
				if !strings.Contains(status.out, want) || !strings.Contains(fit, inFit+want+".") {
					t.Errorf("without %q:\n%s\n%s", want, status.out, fit)
				}
			}
		})
	}
}
