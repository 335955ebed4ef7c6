package engine_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// givenSuite: a command line that this program writes itself is taken apart into what it was
// written from, and the pool that follows from that has the same command line.
func givenSuite(t *testing.T, s subject, a engine.Adapter) {
	p := wanted(s.kind, "--operator", "last", "--word=1")
	if s.kind != engine.Program && s.kind != engine.Triton {
		p.Ctx, p.Slots = 512, 3
	}
	if a.SplitsByShare() {
		p.TensorSplit = []float64{0.75, 0.25}
	}
	for _, instance := range []engine.Instance{at(), at("GPU-a", "GPU-b")} {
		line := a.Command(p, instance).Args
		g := a.Given(line)
		if len(g.Wrong) > 0 || len(g.Args) != len(g.At) {
			t.Fatalf("%q: %+v", line, g)
		}
		for i, arg := range g.Args {
			if line[g.At[i]] != arg {
				t.Errorf("%q was not at %d of %q", arg, g.At[i], line)
			}
		}
		if s.kind != engine.Program && (g.Model != instance.Model || g.Host != instance.Host ||
			g.Port != instance.Port ||
			g.Ctx != p.Ctx || g.Slots != p.Slots) {
			t.Errorf("%q: %+v", line, g)
		}
		again := p
		again.Args, again.TensorSplit = g.Args, g.Split
		remade := slices.Sorted(slices.Values(a.Command(again, instance).Args))
		if !slices.Equal(remade, slices.Sorted(slices.Values(line))) {
			t.Errorf("made again: %q, was %q", remade, line)
		}
		again.Devices = [][]string{instance.Devices}
		if refused := a.Check(again); len(refused) > 0 && s.kind != engine.TRTLLM {
			t.Error(refused)
		}
	}
}

// TestGiven: command lines as people and other programs write them.
func TestGiven(t *testing.T) {
	for name, c := range map[string]struct {
		kind, line string
		want       engine.Given
	}{
		"llama_as_orchestrators_write_it": {engine.LlamaCpp, "--host 127.0.0.1 --port 9000 -m /models/x.gguf -ngl 99",
			engine.Given{Model: "/models/x.gguf", Host: "127.0.0.1", Port: 9000, Args: []string{"-ngl", "99"}, At: []int{6, 7}}},
		"llama_context_of_all_slots": {engine.LlamaCpp, "-c 8192 -np 4 --flash-attn",
			engine.Given{Ctx: 2048, Slots: 4, Args: []string{"--flash-attn"}, At: []int{4}}},
		"llama_chooses_its_slots":  {engine.LlamaCpp, "-np -1 -c 0", engine.Given{}},
		"llama_shares_in_any_unit": {engine.LlamaCpp, "-ts 3,1", engine.Given{Split: []float64{0.75, 0.25}}},
		"the_last_of_two_counts":   {engine.LlamaCpp, "--port 1 --port 9000", engine.Given{Port: 9000}},
		"of_another_model_host_stays": {engine.LlamaCpp, "-hf a/b --device none",
			engine.Given{Args: []string{"-hf", "a/b", "--device", "none"}, At: []int{0, 1, 2, 3}}},
		"vllm_serve": {engine.VLLM, "serve /m --max_model_len=4096 --max-num-seqs 8 --port=1234",
			engine.Given{Model: "/m", Port: 1234, Ctx: 4096, Slots: 8}},
		"vllm_with_the_flag": {engine.VLLM, "serve --model /m --host ::1", engine.Given{Model: "/m", Host: "::1"}},
		"sglang_as_a_module": {engine.SGLang, "-m sglang.launch_server --model-path /m", engine.Given{Model: "/m"}},
		"tgi_joined":         {engine.TGI, "--model-id /m -p80", engine.Given{Model: "/m", Port: 80}},
		"trtllm":             {engine.TRTLLM, "serve /m --max_seq_len 99", engine.Given{Model: "/m", Ctx: 99}},
		"triton":             {engine.Triton, "--model-repository=/m --http-port=8000", engine.Given{Model: "/m", Port: 8000}},
		"any_program_keeps_it": {engine.Program, "--port=9000 --host localhost x",
			engine.Given{Port: 9000, Host: "localhost", Args: []string{"--port=9000", "--host", "localhost", "x"}, At: []int{0, 1, 2, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			got := a.Given(strings.Fields(c.line))
			if len(got.Args) == 0 {
				got.Args, got.At = nil, nil
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
	for name, c := range map[string]struct {
		line string
		want engine.WrongFlag
	}{
		"no_value":   {"-ngl 9 --port", engine.WrongFlag{2, "is --port without a value"}},
		"no_number":  {"--port x", engine.WrongFlag{0, `is --port "x", want a whole number from 1 to 65535`}},
		"too_large":  {"-a --port 65536", engine.WrongFlag{1, `is --port "65536", want a whole number from 1 to 65535`}},
		"no_share":   {"-ts 1,,x", engine.WrongFlag{0, `is -ts "1,,x", want numbers above 0, joined by commas`}},
		"zero_share": {"-ts 0,1", engine.WrongFlag{0, `is -ts "0,1", want numbers above 0, joined by commas`}},
	} {
		t.Run("refused/"+name, func(t *testing.T) {
			a, _ := engine.For(engine.LlamaCpp)
			got := a.Given(strings.Fields(c.line)).Wrong
			if !reflect.DeepEqual(got, []engine.WrongFlag{c.want}) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOfBinary(t *testing.T) {
	for binary, want := range map[string]string{
		"/usr/bin/llama-server": engine.LlamaCpp, "/opt/llama-server-cuda": engine.LlamaCpp, "/opt/llama-server.sh": engine.LlamaCpp,
		"/opt/vllm/bin/vllm": engine.VLLM, "/opt/vllm-0.9": engine.VLLM, "/usr/bin/tritonserver": engine.Triton,
		"/usr/bin/text-generation-launcher": engine.TGI, "/usr/bin/trtllm-serve": engine.TRTLLM, "/usr/bin/sglang": engine.SGLang,
		"/usr/bin/python3": engine.Program, "/opt/llama-servers": engine.Program, "/opt/my-llama-server": engine.Program,
	} {
		if got := engine.OfBinary(binary); got != want {
			t.Errorf("%s: %s, want %s", binary, got, want)
		}
	}
}

func FuzzGiven(f *testing.F) {
	f.Add("--host 127.0.0.1 --port 9000 -m /models/x.gguf -ngl 99")
	f.Add("serve /m --max_model_len=4096 -p80 -ts 1/2")
	f.Fuzz(mutate.Many(func(t *testing.T, line string) {
		args := strings.Fields(line)
		for _, kind := range engine.Kinds() {
			a, _ := engine.For(kind)
			g := a.Given(args)
			if len(g.Args) != len(g.At) || g.Port < 0 || g.Port > 65535 || g.Slots < 0 || g.Ctx < 0 {
				t.Fatalf("%s: %+v", kind, g)
			}
			for i, at := range g.At {
				if args[at] != g.Args[i] {
					t.Fatalf("%s: %q is not at %d", kind, g.Args[i], at)
				}
			}
		}
	}))
}
