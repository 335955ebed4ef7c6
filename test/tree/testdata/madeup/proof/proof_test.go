package madeup

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

const file = "engine = \"madeup\"\nmodel = \"file:/srv/models/m\"\ndevices = [0]\n"

func adapter(t *testing.T) engine.Adapter {
	t.Helper()
	a, ok := engine.For("madeup")
	if !ok || !slices.Contains(engine.Kinds(), "madeup") {
		t.Fatal("it is not known")
	}
	return a
}

// load reads a pool file as the manager does; nil where it has a problem.
func load(t *testing.T, text string) (*pool.Pool, []config.Problem) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	set := config.LoadPools(dir, config.DefaultHost())
	if len(set.Pools) != 1 || len(set.Problems) > 0 {
		return nil, set.Problems
	}
	return &set.Pools[0], nil
}

func TestItsPoolFile(t *testing.T) {
	p, problems := load(t, file)
	if p == nil {
		t.Fatal(problems)
	}
	for _, wrong := range []string{"tensor_split = [1.0]\n", "model = \"\"\n"} {
		if p, _ := load(t, strings.Replace(file, "model", wrong+"model", 1)); p != nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
}

func TestItsUnit(t *testing.T) {
	p, problems := load(t, file)
	if p == nil {
		t.Fatal(problems)
	}
	unit, err := render.Render(render.Input{Pool: *p, Port: 21000, Adapter: adapter(t),
		Staged:   pool.Staged{Path: "/srv/models/m"},
		Prepared: pool.Prepared{Binary: "/usr/bin/madeup-server", Version: "unknown"},
		Mask:     []render.Device{{Visible: "GPU-1", Nodes: []string{"/dev/nvidia0"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, l := range unit.Lines {
		text.WriteString(l.Key + "=" + l.Text + " " + l.Why + "\n")
	}
	for name, want := range map[string]string{
		"command": "/usr/bin/madeup-server --load /srv/models/m", "probe": "--url http://127.0.0.1:21000/made/up --expect 204",
		"fallback": "--engine madeup", "sandbox": "it compiles what it makes up at run time", "environment": "MADEUP=1", "shutdown": "77",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s: %q is not in the unit:\n%s", name, want, &text)
		}
	}
}

func TestItsMemory(t *testing.T) {
	gpu := []devices.Target{{UUID: "GPU-1", Total: 1000}}
	need, err := memory.New(nil, nil).Estimate(t.Context(), pool.Pool{Engine: "madeup"}, pool.Staged{Path: t.TempDir()},
		"1", gpu)
	if err != nil || need.Source != memory.Claimed || need.Devices["GPU-1"] != 500 || need.ClaimFlag != "--share" {
		t.Errorf("%+v, %v", need, err)
	}
}

func TestItsLogLines(t *testing.T) {
	for line, want := range map[string]bool{
		"now making it up on the CPU": true, "load_tensors: offloaded 0/33 layers to GPU": false,
	} {
		if _, ok := classify.OnCPU(engine.Fallbacks("madeup"), line); ok != want {
			t.Errorf("%q: %t", line, ok)
		}
	}
}

func TestItsMetrics(t *testing.T) {
	reg := registry.New()
	m := metrics.New(metrics.Options{Registry: reg, Engines: engine.Kinds(), Version: "1",
		Log: slog.New(slog.DiscardHandler), Now: registrytest.Start})
	p := registrytest.Gemma()
	p.Engine = "madeup"
	for _, p := range registrytest.OnGPUs([]registry.Pool{p}) {
		reg.Put(p)
	}
	facts := registrytest.Devices()
	facts.Taken = registrytest.Start()
	reg.SetDevices(facts)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Body)
	if !strings.Contains(string(body), "\nvram_used_bytes{") || !strings.Contains(string(body), `engine="madeup"`) {
		t.Errorf("no series of its GPU:\n%s", body)
	}
}
