package render_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestVersionThatCannotServe: what a version of an engine cannot serve is an error with a hint, and
// no unit.
func TestVersionThatCannotServe(t *testing.T) {
	partition := input(gpus([]string{"MIG-5a7d"}), kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"),
		mask(render.Device{Visible: "MIG-5a7d1c9e-0000-0000-0000-000000000000", Nodes: []string{"/dev/nvidia3"}}))
	partition.Prepared.Version = "0.20.1"
	_, err := render.Render(partition)
	var f *registry.Failure
	if !errors.As(err, &f) || f.Code != registry.CodeDeviceMaskInvalid || !strings.Contains(f.Hint, "0.24") {
		t.Errorf("%v, want %s with the version to install", err, registry.CodeDeviceMaskInvalid)
	}
	partition.Prepared.Version = "0.24.0"
	if _, err := render.Render(partition); err != nil {
		t.Errorf("a newer version: %v", err)
	}
}

// TestGateAsksBelowThePrefix: the gate asks the path that the engine has, or that the file names.
func TestGateAsksBelowThePrefix(t *testing.T) {
	for path, want := range map[string]string{
		"":     "http://127.0.0.1:21000/x/health",
		"/own": "http://127.0.0.1:21000/own",
	} {
		unit, err := render.Render(input(args("--api-prefix", "/x"), with(func(p *pool.Pool) { p.Health.Path = path })))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(unit.File(), "--url "+want+" ") {
			t.Errorf("the gate of path %q does not ask %s:\n%s", path, want, unit.File())
		}
	}
}
