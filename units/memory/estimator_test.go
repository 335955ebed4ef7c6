package memory

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// gpus are targets "GPU-a", "GPU-b", … of so many bytes.
func gpus(totals ...uint64) []devices.Target {
	var list []devices.Target
	for i, t := range totals {
		list = append(list, devices.Target{UUID: "GPU-" + string(rune('a'+i)), Index: i, Name: "Test GPU", Total: t})
	}
	return list
}

// tiny writes a model of about that size and returns it as staged.
func tiny(t testing.TB, size int64) pool.Staged {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := tinymodel.Write(path, tinymodel.Options{Size: size}); err != nil {
		t.Fatal(err)
	}
	return staged(t, path)
}

func staged(t testing.TB, path string) pool.Staged {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return pool.Staged{Path: path, Files: []string{path}, SizeBytes: info.Size()}
}

// fixedPeaks answers every key alike.
type fixedPeaks []uint64

func (p fixedPeaks) Peak(string) ([]uint64, bool) { return p, p != nil }
func (fixedPeaks) Record(string, Sample) error    { return nil }
func (fixedPeaks) Raised(string) (Raised, bool)   { return Raised{}, false }
func (fixedPeaks) Raise(string, Raised) error     { return nil }
func (fixedPeaks) Lower(string) error             { return nil }

// TestSource checks which source wins.
func TestSource(t *testing.T) {
	model := tiny(t, 0)
	dir := t.TempDir()
	for _, shard := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} {
		if err := os.WriteFile(filepath.Join(dir, shard), make([]byte, 5*mib), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tensors := pool.Staged{Path: dir}
	cases := []struct {
		name    string
		pool    pool.Pool
		staged  pool.Staged
		version string
		peaks   fixedPeaks
		targets []devices.Target
		source  Source
		want    []uint64 // by device; nil: not looked at
	}{
		{"vram_of_the_pool_file", pool.Pool{Engine: engine.LlamaCpp, VRAMBytes: 6 * gib}, model, "", fixedPeaks{1}, gpus(8 * gib), Configured, []uint64{6 * gib}},
		{"vram_by_tensor_split", pool.Pool{Engine: engine.LlamaCpp, VRAMBytes: 8 * gib, TensorSplit: []float64{0.75, 0.25}}, model, "", nil,
			gpus(8*gib, 8*gib), Configured, []uint64{6*gib + 1, 2*gib + 1}},
		{"vram_by_the_sizes_of_llamacpp", pool.Pool{Engine: engine.LlamaCpp, VRAMBytes: 6 * gib}, model, "", nil,
			gpus(16*gib, 8*gib), Configured, []uint64{4*gib + 1, 2*gib + 1}},
		{"vram_evenly_of_others", pool.Pool{Engine: engine.Program, VRAMBytes: 6 * gib}, pool.Staged{}, "", nil,
			gpus(16*gib, 8*gib), Configured, []uint64{3*gib + 1, 3*gib + 1}},
		{"a_measured_peak", pool.Pool{Engine: engine.LlamaCpp}, model, "", fixedPeaks{3 * gib}, gpus(8 * gib), Measured, []uint64{3 * gib}},
		{"a_peak_of_another_mask_is_none", pool.Pool{Engine: engine.LlamaCpp}, model, "", fixedPeaks{gib, gib}, gpus(8 * gib), Estimated, nil},
		{"a_peak_that_the_driver_did_not_tell_is_none", pool.Pool{Engine: engine.LlamaCpp}, model, "", fixedPeaks{gib, 0}, gpus(8*gib, 8*gib), Estimated, nil},
		{"the_model_file", pool.Pool{Engine: engine.LlamaCpp}, model, "", nil, gpus(8 * gib), Estimated, nil},
		{"vllm_claims_its_share", pool.Pool{Engine: engine.VLLM}, tensors, "0.9.2", nil, gpus(10 * gib), Claimed, []uint64{9 * gib}},
		{"vllm_does_not_start_below_it_whatever_it_took", pool.Pool{Engine: engine.VLLM}, tensors, "0.9.2", fixedPeaks{gib}, gpus(10 * gib), Claimed, []uint64{9 * gib}},
		{"vllm_claims_more_since_0.21", pool.Pool{Engine: engine.VLLM}, tensors, "0.21.0", nil, gpus(100 * gib), Claimed, []uint64{92 * gib}},
		{"vllm_of_unknown_version", pool.Pool{Engine: engine.VLLM}, tensors, "unknown", nil, gpus(10 * gib), Claimed, []uint64{9 * gib}},
		{"vllm_is_told_a_share", pool.Pool{Engine: engine.VLLM, Args: []string{"--gpu_memory_utilization=0.5"}}, tensors, "0.21.0", nil, gpus(10*gib, 4*gib), Claimed, []uint64{5 * gib, 2 * gib}},
		{"vllm_of_a_fixed_cache", pool.Pool{Engine: engine.VLLM, Args: []string{"--kv-cache-memory-bytes", "5"}}, tensors, "", nil, gpus(8 * gib), Estimated,
			[]uint64{12*mib + safetensorsBase}},
		{"tgi_is_told_a_share", pool.Pool{Engine: engine.TGI, Env: map[string]string{"CUDA_MEMORY_FRACTION": "0.5"}}, tensors, "", nil, gpus(8000), Claimed, []uint64{3800}},
		{"tgi_may_have_been_measured", pool.Pool{Engine: engine.TGI}, tensors, "", fixedPeaks{gib}, gpus(8 * gib), Measured, []uint64{gib}},
		{"safetensors_over_two_gpus", pool.Pool{Engine: engine.TGI}, tensors, "", nil, gpus(0, 0), Estimated, []uint64{6*mib + safetensorsBase, 6*mib + safetensorsBase}},
		{"triton_is_not_known", pool.Pool{Engine: engine.Triton}, tensors, "", nil, gpus(8 * gib), Unknown, nil},
		{"a_command_without_a_model_is_not_known", pool.Pool{Engine: engine.Program}, pool.Staged{}, "", nil, gpus(8 * gib), Unknown, nil},
		{"vllm_on_the_cpu_is_not_known", pool.Pool{Engine: engine.VLLM, VRAMBytes: gib}, tensors, "", nil, nil, Unknown, nil},
		{"llamacpp_on_the_cpu", pool.Pool{Engine: engine.LlamaCpp, VRAMBytes: gib}, model, "", nil, nil, Estimated, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			need, err := New(c.peaks, nil).Estimate(t.Context(), c.pool, c.staged, c.version, c.targets)
			if err != nil || need.Source != c.source {
				t.Fatalf("source %q (%s), %v; want %q", need.Source, need.Why, err, c.source)
			}
			if (need.Source == Unknown) == need.Known() || (need.Source == Unknown) != (need.Why != "") {
				t.Errorf("source %q, known %t, why %q", need.Source, need.Known(), need.Why)
			}
			for i, want := range c.want {
				if got := need.Devices[c.targets[i].UUID]; got+1 < want || got > want+1 { // rounding
					t.Errorf("device %d: %d bytes, want %d", i, got, want)
				}
			}
			if need.Source == Estimated {
				partsAddUp(t, need)
			}
		})
	}
}

func partsAddUp(t *testing.T, n Need) {
	t.Helper()
	sums := map[string]uint64{}
	for _, p := range n.Parts {
		sums[p.Device] += p.Bytes
	}
	if sums[""] != n.Host {
		t.Errorf("main memory is %d, its parts are %d", n.Host, sums[""])
	}
	for uuid, bytes := range n.Devices {
		if sums[uuid] != bytes {
			t.Errorf("%s is %d, its parts are %d", uuid, bytes, sums[uuid])
		}
	}
}

// TestLlamaFlags checks what a flag does to the need.
func TestLlamaFlags(t *testing.T) {
	model := tiny(t, 8*mib)
	draft := tiny(t, 3*mib).Path
	one, two, hopper := gpus(8*gib), gpus(8*gib, 8*gib), gpus(8*gib)
	hopper[0].ComputeCapability = "9.0"
	get := func(t *testing.T, p pool.Pool, targets []devices.Target) Need {
		t.Helper()
		p.Engine = engine.LlamaCpp
		n, err := New(nil, nil).Estimate(t.Context(), p, model, "", targets)
		if err != nil || n.Source != Estimated {
			t.Fatalf("%+v, %v", n, err)
		}
		return n
	}
	args := func(flags ...string) pool.Pool { return pool.Pool{Ctx: 4096, Slots: 2, Args: flags} }
	plain, plainCPU := get(t, args(), one), get(t, args(), nil)
	kv := func(n Need, device string) uint64 { return part(n, PartKV, device) }
	weights := func(n Need, device string) uint64 { return part(n, PartWeights, device) }
	cases := []struct {
		name string
		need Need
		ok   func(n Need) bool
	}{
		// 2 layers × 64 numbers × keys and values × 2 bytes × tokens
		{"cache_of_all_slots", plain, func(n Need) bool { return kv(n, "GPU-a") == 2*64*2*2*8192 && kv(n, "") == 0 }},
		{"cache_on_the_cpu", plainCPU, func(n Need) bool { return kv(n, "") == 2*64*2*2*8192 }},
		{"twice_the_context", get(t, pool.Pool{Ctx: 8192, Slots: 2}, one), func(n Need) bool { return kv(n, "GPU-a") == 2*kv(plain, "GPU-a") }},
		{"cache_type", get(t, args("-ctk", "f32", "--cache-type-v", "f32"), one), func(n Need) bool { return kv(n, "GPU-a") == 2*kv(plain, "GPU-a") }},
		{"cache_type_from_the_environment", get(t, pool.Pool{Ctx: 4096, Slots: 2, Env: map[string]string{"LLAMA_ARG_CACHE_TYPE_K": "f32"}}, one),
			func(n Need) bool { return kv(n, "GPU-a") == kv(plain, "GPU-a")/2*3 }},
		{"no_context_given_is_the_models_up_to_4096", get(t, pool.Pool{}, one), func(n Need) bool { return kv(n, "GPU-a") == 2*64*2*2*512 }},
		{"cache_stays_on_the_host", get(t, args("-nkvo"), one), func(n Need) bool { return kv(n, "GPU-a") == 0 && kv(n, "") == kv(plain, "GPU-a") }},
		{"all_weights_are_offloaded", plain, func(n Need) bool { return weights(n, "GPU-a") > 8*mib && weights(n, "") < mib }},
		{"half_is_offloaded", get(t, args("-ngl", "2"), one), func(n Need) bool {
			return weights(n, "GPU-a") < weights(plain, "GPU-a")*6/10 && weights(n, "") > 3*mib &&
				n.Mapped == weights(n, "")
		}},
		{"nothing_is_offloaded", get(t, args("-ngl", "0"), one), func(n Need) bool { return weights(n, "") == weights(plainCPU, "") && kv(n, "GPU-a") == 0 }},
		{"all_on_the_cpu_is_the_files_size", plainCPU, func(n Need) bool { return n.Mapped > 8*mib && n.Mapped <= uint64(model.SizeBytes) }},
		{"no_mmap_is_not_mapped", get(t, args("--no-mmap"), nil), func(n Need) bool { return n.Mapped == 0 && n.Host == plainCPU.Host }},
		{"locked_is_not_mapped", get(t, args("--mlock"), nil), func(n Need) bool { return n.Mapped == 0 && n.Host == plainCPU.Host }},
		{"nor_is_a_mode_that_locks", get(t, args("--load-mode", "mmap+mlock"), nil), func(n Need) bool { return n.Mapped == 0 }},
		{"nor_one_that_reads", get(t, args("--load-mode", "dio"), nil), func(n Need) bool { return n.Mapped == 0 }},
		{"the_mode_mmap_is_mapped", get(t, args("--load-mode", "mmap"), nil), func(n Need) bool { return n.Mapped == plainCPU.Mapped }},
		{"one_device_has_all", get(t, args("-sm", "none", "-mg", "1"), two), func(n Need) bool { return weights(n, "GPU-a") == 0 && weights(n, "GPU-b") == weights(plain, "GPU-a") }},
		{"split_over_two", get(t, pool.Pool{TensorSplit: []float64{0.3, 0.7}}, two), func(n Need) bool { return weights(n, "GPU-a") > 0 && weights(n, "GPU-b") > 0 }},
		{"each_visible_gpu_has_a_context", plain, func(n Need) bool { return part(n, PartRuntime, "GPU-a") == usualContext }},
		{"a_context_is_larger_on_newer_gpus", get(t, args(), hopper), func(n Need) bool {
			return part(n, PartRuntime, "GPU-a") == hopperContext &&
				n.Devices["GPU-a"]-plain.Devices["GPU-a"] == hopperContext-usualContext
		}},
		{"smaller_batch", get(t, args("-ub", "64"), one), func(n Need) bool { return part(n, PartCompute, "GPU-a") < part(plain, PartCompute, "GPU-a")/2 }},
		{"draft_model", get(t, args("-md", draft), one), func(n Need) bool { return weights(n, "GPU-a") > weights(plain, "GPU-a")+3*mib }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if !c.ok(c.need) {
				t.Errorf("need %+v\nplain %+v", c.need, plain)
			}
		})
	}
}

func part(n Need, name, device string) uint64 {
	i := slices.IndexFunc(n.Parts, func(p Part) bool { return p.Name == name && p.Device == device })
	if i < 0 {
		return 0
	}
	return n.Parts[i].Bytes
}

// TestUnknown checks what cannot be estimated, and that the reason is in Why.
func TestUnknown(t *testing.T) {
	model := tiny(t, 0)
	garbage := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no model ", 99)), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		staged pool.Staged
		args   []string
		want   string
	}{
		{"no_gguf", staged(t, garbage), nil, "not understood"},
		{"missing", pool.Staged{Path: "/nonexistent.gguf"}, nil, "no such file"},
		{"a_part_is_missing", pool.Staged{Path: "/nonexistent-00001-of-00002.gguf"}, nil, "00001-of-00002.gguf: no such file"},
		{"a_device_file", pool.Staged{Path: "/dev/zero"}, nil, "not a regular file"},
		{"single_tensors_are_placed", model, []string{"-ot", "x=CPU"}, "--override-tensor"},
		{"experts_are_placed", model, []string{"--n-cpu-moe", "3"}, "--n-cpu-moe"},
		{"the_engine_chooses_the_layers", model, []string{"-ngl", "auto"}, "lets the engine choose"},
		{"unknown_cache_type", model, []string{"-ctk", "q9"}, `"q9" is not a cache type`},
		{"unknown_split", model, []string{"-sm", "tensor"}, "split mode"},
		{"missing_draft", model, []string{"-md", "/nonexistent"}, "a file that args name"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			need, err := New(nil, nil).Estimate(t.Context(), pool.Pool{Engine: engine.LlamaCpp, Args: c.args}, c.staged,
				"", gpus(gib))
			if err != nil || need.Source != Unknown || need.Known() || !strings.Contains(need.Why, c.want) {
				t.Errorf("%+v, %v; want unknown because of %q", need, err, c.want)
			}
			if f, _ := CheckHost(need, 0, pool.Pool{Limits: pool.Limits{MemoryMaxBytes: 1}}); f != nil {
				t.Errorf("an unknown need is refused: %v", f)
			}
		})
	}
}

func TestEstimateOfAnEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(nil, nil).Estimate(ctx, pool.Pool{Engine: engine.LlamaCpp}, tiny(t, 0), "", nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// TestUnknownIsLoggedOnce: the reason is logged once for each pool, and a file that comes later is
// found.
func TestUnknownIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	e := New(nil, slog.New(slog.NewTextHandler(&log, nil)))
	p := pool.Pool{ID: "p", Engine: engine.LlamaCpp, Args: []string{"-md", filepath.Join(t.TempDir(), "draft.gguf")}}
	model := tiny(t, 0)
	get := func() Source {
		need, err := e.Estimate(t.Context(), p, model, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		return need.Source
	}
	if a, b := get(), get(); a != Unknown || b != Unknown || strings.Count(log.String(), "\n") != 1 ||
		!strings.Contains(log.String(), "pool_id=p") {
		t.Errorf("%s, %s, log %q", a, b, log.String())
	}
	if err := tinymodel.Write(p.Args[1], tinymodel.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := get(); s != Estimated {
		t.Errorf("with the file there, the source is %s", s)
	}
}

// FuzzArguments: whatever an operator writes, the options are within bounds or an error.
func FuzzArguments(f *testing.F) {
	f.Add("-c 99999999999 -ngl 3 -sm none -mg 7", 0.5)
	f.Add("-ub 0 -b 4 -ctk f16 -fa", -1.0)
	f.Add("--n-gpu-layers", 1e300)
	f.Fuzz(mutate.Many(func(t *testing.T, args string, weight float64) {
		o, err := readRun(ggufAdapter(), pool.Pool{Args: strings.Fields(args), TensorSplit: []float64{weight, 1}}, "/m",
			gpus(gib, gib))
		if err != nil {
			return
		}
		sum := 0.0
		for _, s := range o.Split {
			sum += s
		}
		if o.Ctx < 0 || o.Ctx > engine.MaxCtx || o.Slots < 1 || o.UBatch < 1 || o.UBatch > o.Batch || o.Layers < 0 ||
			o.Main < 0 || o.Main > 1 || sum < 0.99 || sum > 1.01 {
			t.Errorf("%+v", o)
		}
	}))
}

// ggufAdapter is an engine that loads GGUF.
func ggufAdapter() engine.Adapter {
	a, _ := engine.For(engine.Usual(false))
	return a
}
