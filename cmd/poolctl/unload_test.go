package main

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestPreloadedPoolsAreMarked: a list shows what asks for each pool as soon as one is not from a
// file, and the status of that one how to remove it.
func TestPreloadedPoolsAreMarked(t *testing.T) {
	h := newHost(t)
	h.reg.Put(registry.Pool{ID: "a", Source: registry.SourceFile, State: registry.StateReady})
	if r := h.run("list"); strings.Contains(r.out, "SOURCE") {
		t.Errorf("a list of pool files alone:\n%s", r.out)
	}
	h.reg.Put(registry.Pool{ID: "b", Source: registry.SourcePreload, State: registry.StateReady})
	var columns []string
	for line := range strings.Lines(h.run("list").out) {
		columns = append(columns, strings.Join(strings.Fields(line)[:2], " "))
	}
	if got := strings.Join(columns, ", "); got != "POOL SOURCE, a file, b preload" {
		t.Errorf("columns %s", got)
	}
	if r := h.run("list", "-o", "wide"); !strings.Contains(r.out, "SOURCE") {
		t.Errorf("wide:\n%s", r.out)
	}
	if r := h.run("status", "b"); !strings.Contains(r.out, "poolctl unload b removes it") {
		t.Errorf("status:\n%s", r.out)
	}
	if r := h.run("status", "a"); strings.Contains(r.out, "Source") {
		t.Errorf("status of a file's pool:\n%s", r.out)
	}
}
