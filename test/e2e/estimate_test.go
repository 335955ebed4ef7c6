//go:build machine

package e2e

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestEstimate compares the estimate of a CPU replica with what a real llama-server logs that it
// took: its buffers for weights, KV cache and computation.
func TestEstimate(t *testing.T) {
	models := t.TempDir()
	for name, size := range map[string]int64{"small": 0, "large": 40 << 20} {
		if err := tinymodel.Write(filepath.Join(models, name+".gguf"), tinymodel.Options{Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	m := machine.Start(t, machine.Config{Release: machine.Forky,
		Files: []machine.File{{Guest: "/srv/models", Host: models}}})
	cases := []struct {
		name  string
		model string
		pool  pool.Pool
		flags []string // the same for the engine
	}{
		{"smallest", "small", pool.Pool{Ctx: 512, Slots: 1}, []string{"-c", "512", "-np", "1"}},
		{"nothing_given", "large", pool.Pool{}, nil},
		{"four_slots", "large", pool.Pool{Ctx: 512, Slots: 4}, []string{"-c", "2048", "-np", "4"}},
		{"long_context", "large", pool.Pool{Ctx: 8192, Slots: 4}, []string{"-c", "32768", "-np", "4"}},
		{"wide_cache", "large", pool.Pool{Ctx: 8192, Slots: 4, Args: []string{"-ctk", "f32", "-ctv", "f32"}},
			[]string{"-c", "32768", "-np", "4", "-ctk", "f32", "-ctv", "f32"}},
		{"no_flash_attention", "large", pool.Pool{Ctx: 8192, Slots: 4, Args: []string{"-fa", "off"}},
			[]string{"-c", "32768", "-np", "4", "-fa", "off"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.pool.Engine = engine.LlamaCpp
			path := filepath.Join(models, c.model+".gguf")
			need, err := memory.New(nil, nil).Estimate(t.Context(), c.pool,
				pool.Staged{Path: path, Files: []string{path}}, "", nil)
			if err != nil || need.Source != memory.Estimated {
				t.Fatalf("Estimate: %+v, %v", need, err)
			}
			actual := loadedBuffers(t, m, c.name,
				append([]string{"-m", "/srv/models/" + c.model + ".gguf"}, c.flags...))
			for part, bounds := range map[string][2]float64{memory.PartWeights: {0.99, 1.02},
				memory.PartKV: {0.99, 1.02}, "all": {0.95, 1.7}} {
				want, got := actual[part], estimatedPart(need, part)
				ratio := got / want
				t.Logf("%s: estimated %.2f MiB, actual %.2f MiB, ratio %.2f", part, got, want, ratio)
				// The log rounds to 0.01 MiB.
				if got < want*bounds[0]-0.02 || got > want*bounds[1]+besideBuffers(part) {
					t.Errorf("%s: the estimate is %.2f of what llama-server takes", part, ratio)
				}
			}
		})
	}
}

// besideBuffers is what the estimate may contain besides the buffers, in MiB: bookkeeping and the
// vocabulary, which the log does not show.
func besideBuffers(part string) float64 {
	if part == "all" {
		return 12
	}
	return 0.02
}

// estimatedPart is a part of main memory in MiB.
func estimatedPart(n memory.Need, part string) float64 {
	if part == "all" {
		return float64(n.Host) / (1 << 20)
	}
	for _, p := range n.Parts {
		if p.Name == part && p.Device == "" {
			return float64(p.Bytes) / (1 << 20)
		}
	}
	return 0
}

var bufferLine = regexp.MustCompile(`CPU\S*\s+(model|KV|compute|output) buffer size =\s+([0-9.]+) MiB`)

// loadedBuffers starts a llama-server and returns the sizes that it logged, in MiB. It looks twice
// at the model: the last numbers are the real ones.
func loadedBuffers(t *testing.T, m *machine.Machine, name string, args []string) map[string]float64 {
	t.Helper()
	unit := "llama-" + name
	m.MustRun(t, append([]string{"systemd-run", "--unit=" + unit, "llama-server", "--port", "9000", "-lv", "5"},
		args...)...)
	defer m.MustRun(t, "systemctl", "stop", unit)
	var log string
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(log,
		"model loaded"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the engine did not load the model:\n%s", log)
		}
		log = m.MustRun(t, "journalctl", "-o", "cat", "-u", unit)
	}
	last := map[string]float64{}
	for _, match := range bufferLine.FindAllStringSubmatch(log, -1) {
		last[match[1]], _ = strconv.ParseFloat(match[2], 64)
	}
	return map[string]float64{
		memory.PartWeights: last["model"], memory.PartKV: last["KV"],
		"all": last["model"] + last["KV"] + last["compute"] + last["output"],
	}
}
