package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// twoGPUs are a large and a small one, and one that is lost.
func twoGPUs() registry.Devices {
	gpu := func(i int, name string, total, free uint64) registry.Device {
		return registry.Device{UUID: fmt.Sprintf("GPU-%08d-0000-0000-0000-000000000000", i), Index: i,
			PCI:  fmt.Sprintf("00000000:%02x:00.0", 0x10+i),
			Name: name, Memory: &registry.VRAM{Total: total, Free: free, Used: total - free}, Health: registry.HealthOK}
	}
	lost := gpu(2, "NVIDIA L4", 24<<30, 24<<30)
	lost.Health = registry.HealthLost
	return registry.Devices{Taken: clock, Driver: registry.Driver{Version: "550.54.14"}, Devices: []registry.Device{
		gpu(0, "NVIDIA L4", 24<<30, 20<<30), gpu(1, "Tesla T4", 16<<30, 600<<20), lost}}
}

// fitHost is a host with those GPUs, three models and a few pool files.
type fitHost struct {
	*host
	models, pools string
}

func newFitHost(t *testing.T, d registry.Devices) *fitHost {
	t.Helper()
	h := &fitHost{host: newHost(t), models: t.TempDir(), pools: t.TempDir()}
	h.reg.SetDevices(d)
	for name, size := range map[string]int64{"tiny": 0, "large": 40 << 20} {
		if err := tinymodel.Write(filepath.Join(h.models, name+".gguf"), tinymodel.Options{Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(h.models, "broken.gguf"), "no model")
	write(filepath.Join(h.models, "tensors", "model.safetensors"), strings.Repeat("x", 4<<20))
	file := func(id, more string) {
		write(filepath.Join(h.pools, id+".toml"), "engine = \"llamacpp\"\nmodel = \"file:"+h.models+"/large.gguf\"\n"+
			more)
	}
	file("split", "devices = [0, 1]\ntensor_split = [0.7, 0.3]\nctx = 512\nslots = 2\n")
	file("twice", "devices = [[0], [1]]\nreplicas = 2\nvram = \"1G\"\n")
	write(filepath.Join(h.pools, "lazy.toml"), "engine = \"command\"\ndevices = [0]\nvram = \"1G\"\n"+
		"args = [\"--port\", \"{port}\"]\n[provisioning]\nbinary = \"/usr/bin/server\"\n")
	write(filepath.Join(h.pools, "bare.toml"), "engine = \"command\"\ndevices = [0]\n"+
		"args = [\"--port\", \"{port}\"]\n[provisioning]\nbinary = \"/usr/bin/server\"\n")
	write(filepath.Join(h.pools, "wrong.toml"), "engine = 5\n")
	return h
}

// fit runs fit with 8 GiB of main memory available, and returns what a person sees.
func (h *fitHost) fit(t *testing.T, line string) (shown string, code int) {
	t.Helper()
	line = strings.ReplaceAll(line, "MODELS", h.models)
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: func() time.Time {
		return clock
	}, available: func() (uint64, error) { return 8 << 30, nil }}
	args := append([]string{"fit"}, strings.Fields(line)...)
	if !strings.Contains(line, "--socket") {
		args = append(args, "--socket", h.socket)
	}
	code = run(t.Context(), a, append(args, "--pools-dir", h.pools, "--config", h.pools+"/none.toml"))
	shown = fmt.Sprintf("$ poolctl fit %s\n%s", line, out.String())
	if errOut.String() != "" {
		shown += "-- standard error --\n" + errOut.String()
	}
	shown += fmt.Sprintf("-- exit status %d --\n", code)
	return strings.NewReplacer(h.models, "/srv/models", h.pools, "/etc/pool-managerd/pools.d", h.socket,
		defaultSocket).Replace(shown), code
}

// TestFit shows fit as a person sees it.
func TestFit(t *testing.T) {
	h := newFitHost(t, twoGPUs())
	none := newFitHost(t, registry.Devices{Driver: registry.Driver{
		Failure: registry.Fail(registry.CodeGPUUnavailable, "no NVIDIA driver is installed", "Install one.")}})
	cases := []struct {
		name string
		host *fitHost
		line string
		code int
	}{
		{"fit-each-gpu-alone", h, "MODELS/large.gguf --ctx 512 --slots 4", exitOK},
		{"fit-two-together", h, "file:MODELS/large.gguf --devices 0,1 --ctx 512 --slots 4", exitOK},
		{"fit-two-together-and-one-too-small", h, "MODELS/large.gguf --devices 1,0 --ctx 300000 --slots 4", exitFailed},
		{"fit-the-large-one", h, "MODELS/large.gguf --devices GPU-00000000 --kv-type f32", exitOK},
		{"fit-only-the-small-one", h, "MODELS/large.gguf --devices 1 --ctx 400000 --slots 4", exitFailed},
		{"fit-lost-gpu", h, "MODELS/large.gguf --devices 2", exitFailed},
		{"fit-no-such-gpu", h, "MODELS/large.gguf --devices 7", exitFailed},
		{"fit-cpu", h, "MODELS/large.gguf --cpu --ctx 512 --slots 2", exitOK},
		{"fit-cpu-too-long", h, "MODELS/large.gguf --cpu --ctx 2000000 --slots 8", exitFailed},
		{"fit-json", h, "MODELS/tiny.gguf --json --devices 0", exitOK},
		{"fit-directory", h, "MODELS/tensors", exitFailed},
		{"fit-broken", h, "MODELS/broken.gguf", exitFailed},
		{"fit-missing", h, "MODELS/none.gguf", exitFailed},
		{"fit-pool", h, "split", exitOK},
		{"fit-pool-with-vram", h, "twice", exitOK},
		{"fit-pool-without-model", h, "lazy", exitOK},
		{"fit-pool-without-model-or-vram", h, "bare", exitFailed},
		{"fit-pool-unknown", h, "splat", exitNoPool},
		{"fit-pool-wrong", h, "wrong", exitFailed},
		{"fit-no-driver", none, "MODELS/tiny.gguf", exitFailed},
		{"fit-no-daemon", h, "MODELS/tiny.gguf --devices 0,1 --socket /nonexistent/api.sock", exitUnreachable},
		{"fit-no-daemon-cpu", h, "MODELS/tiny.gguf --cpu --socket /nonexistent/api.sock", exitOK},
		{"fit-usage-kv-type", h, "MODELS/tiny.gguf --kv-type q9", exitUsage},
		{"fit-usage-two-places", h, "MODELS/tiny.gguf --cpu --devices 0", exitUsage},
		{"fit-usage-engine", h, "MODELS/tiny.gguf --engine ollama", exitUsage},
		{"fit-usage-nothing", h, "", exitUsage},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, code := c.host.fit(t, c.line)
			if code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			golden := filepath.Join("testdata", c.name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got; -update writes it:\n%s", diff)
			}
		})
	}
}

// TestFitCompletes: pools and files are offered.
func TestFitCompletes(t *testing.T) {
	h := newHost(t)
	h.fill()
	r := poolctl(t.Context(), "__complete", "fit", "--socket", h.socket, "gem")
	if !strings.HasPrefix(r.out, "gemma\t") || !strings.Contains(r.out, ":0\n") {
		t.Errorf("%d %s%s", r.code, r.out, r.errOut)
	}
}

// TestFitIsDocumented: the output in the documentation is a real one.
func TestFitIsDocumented(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "fit-each-gpu-alone.golden"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "memory.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown, _, _ := strings.Cut(string(golden), "-- exit status")
	for line := range strings.Lines(shown) {
		if strings.TrimSpace(line) != "" && !strings.Contains(string(page), "    "+line) {
			t.Errorf("docs/reference/memory.md does not show %q", line)
		}
	}
}
