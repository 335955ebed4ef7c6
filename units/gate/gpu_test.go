package gate

import (
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	engines "github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestProofOf(t *testing.T) {
	holds := func(device string) wire.Held {
		return wire.Held{Device: device, Processes: 1, Used: new(uint64(5 * gib))}
	}
	lacks := func(device string) wire.Held { return wire.Held{Device: device} }
	unknown := func(device string) wire.Held { return wire.Held{Device: device, Unknown: "no list"} }
	for _, c := range []struct {
		name string
		held []wire.Held
		one  bool
		want proof
	}{
		{"one", []wire.Held{holds("G0")}, false, proof{holds: "5.0 GiB of G0"}},
		{"of_unknown_size", []wire.Held{{Device: "G0", Processes: 2}}, false, proof{holds: "memory of G0"}},
		{"both", []wire.Held{holds("G0"), holds("G1")}, false, proof{holds: "5.0 GiB of G0, 5.0 GiB of G1"}},
		{"one_of_two", []wire.Held{lacks("G0"), holds("G1")}, false,
			proof{lacks: "NVML lists no process of this unit with memory of G0 (it holds 5.0 GiB of G1)"}},
		{"one_of_two_is_enough", []wire.Held{lacks("G0"), holds("G1")}, true, proof{holds: "5.0 GiB of G1"}},
		{"none", []wire.Held{lacks("G0"), lacks("G1")}, true, proof{lacks: "NVML lists no process of this unit with memory of G0, G1"}},
		{"unknown", []wire.Held{unknown("G0")}, false, proof{unknown: "G0: no list"}},
		{"unknown_of_one", []wire.Held{holds("G0"), unknown("G1")}, false, proof{unknown: "G1: no list"}},
		{"a_certain_lack_decides", []wire.Held{lacks("G0"), unknown("G1")}, false,
			proof{lacks: "NVML lists no process of this unit with memory of G0"}},
		{"unless_the_other_is_enough", []wire.Held{lacks("G0"), unknown("G1")}, true, proof{unknown: "G1: no list"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := proofOf(c.held, c.one); got != c.want {
				t.Errorf("= %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestGPU: NVML's list of processes decides, and the log only where there is no list.
func TestGPU(t *testing.T) {
	const (
		none   = "load_tensors: offloaded 0/33 layers to GPU"
		some   = "load_tensors: offloaded 10/33 layers to GPU"
		all    = "load_tensors: offloaded 33/33 layers to GPU"
		draft  = "load_tensors: offloaded 0/17 layers to GPU"
		broken = "warning: no usable GPU found"
	)
	every := engines.Layers{Model: engines.AllLayers, Draft: engines.AllLayers}
	answer := func(h ...wire.Held) *wire.Reply { return &wire.Reply{Held: h} }
	holds := answer(wire.Held{Device: "G0", Processes: 1, Used: new(uint64(5 * gib))})
	lacks, unknown := answer(wire.Held{Device: "G0"}), answer(wire.Held{Device: "G0", Unknown: "no list"})
	granted := &wire.Reply{Granted: true}
	for _, c := range []struct {
		name    string
		replies []*wire.Reply
		log     []string
		change  func(*GPUOptions)
		want    int
		says    string
		release bool // the reservation is ended
	}{
		{"holds", []*wire.Reply{holds, granted}, []string{all}, nil, exit.Ready, "the engine holds GPU memory: 5.0 GiB of G0", true},
		{"holds_and_the_log_denies_it", []*wire.Reply{holds, granted}, []string{broken, all}, nil, exit.Ready, "5.0 GiB of G0", true},
		{"holds_and_logs_nothing", []*wire.Reply{holds, granted}, nil, nil, exit.Ready, "5.0 GiB of G0", true},
		{"holds_later", []*wire.Reply{lacks, lacks, holds, granted}, []string{all}, nil, exit.Ready, "5.0 GiB of G0", true},
		{"draft_on_the_CPU", []*wire.Reply{holds, granted}, []string{all, draft}, nil, exit.Ready, "left a part of the model to the CPU: 33/33, 0/17 layers on the GPU", true},
		{"draft_on_the_CPU_as_asked", []*wire.Reply{holds, granted}, []string{all, draft}, func(o *GPUOptions) { o.Whole, o.Layers.Draft = true, 0 }, exit.Ready, "5.0 GiB of G0", true},
		{"part_on_the_CPU", []*wire.Reply{holds, granted}, []string{some}, nil, exit.Ready, "left a part of the model to the CPU: 10/33 layers", true},
		{"part_on_the_CPU_is_forbidden", []*wire.Reply{holds, granted}, []string{some}, func(o *GPUOptions) { o.Whole = true }, exit.PartOnCPU, "which [policy] vram_only forbids: 10/33 layers", true},
		{"part_on_the_CPU_as_asked", []*wire.Reply{holds, granted}, []string{some}, func(o *GPUOptions) { o.Whole, o.Layers.Model = true, 10 }, exit.Ready, "5.0 GiB of G0", true},
		{"a_context_without_a_layer", []*wire.Reply{holds, granted}, []string{none}, nil, exit.NoGPU, "put no layer of the model on its GPU", true},
		{"a_context_without_a_layer_as_asked", []*wire.Reply{holds, granted}, []string{none}, func(o *GPUOptions) { o.Layers.Model = 0 }, exit.Ready, "5.0 GiB of G0", true},
		{"lacks", []*wire.Reply{lacks}, []string{broken}, nil, exit.HoldsNoGPU,
			`NVML lists no process of this unit with memory of G0; the engine found no usable GPU; its log says "warning: no usable GPU found"`, false},
		{"lacks_whatever_the_log_says", []*wire.Reply{lacks}, []string{all}, nil, exit.HoldsNoGPU, "with memory of G0", false},
		{"lacks_and_logs_nothing", []*wire.Reply{lacks}, nil, nil, exit.HoldsNoGPU, "with memory of G0", false},
		{"lacks_one_of_two", []*wire.Reply{answer(wire.Held{Device: "G0", Processes: 1}, wire.Held{Device: "G1"})}, nil,
			func(o *GPUOptions) { o.Devices = []string{"G0", "G1"} }, exit.HoldsNoGPU, "with memory of G1 (it holds memory of G0)", false},
		{"one_of_two_is_enough", []*wire.Reply{answer(wire.Held{Device: "G0", Processes: 1}, wire.Held{Device: "G1"}), granted}, nil,
			func(o *GPUOptions) { o.Devices, o.Proof = []string{"G0", "G1"}, pool.ProofAny }, exit.Ready, "memory of G0", true},
		{"unknown", []*wire.Reply{unknown}, []string{all, draft}, nil, exit.Ready, "could not check whether the engine holds GPU memory, its log decides: G0: no list", true},
		{"unknown_and_the_log_decides", []*wire.Reply{unknown}, []string{broken}, nil, exit.NoGPU, "no usable GPU found", true},
		{"unknown_and_no_layer", []*wire.Reply{unknown}, []string{none}, nil, exit.NoGPU, "put no layer", true},
		{"unknown_for_a_moment", []*wire.Reply{unknown, lacks}, nil, nil, exit.HoldsNoGPU, "with memory of G0", false},
		{"a_helper_of_a_former_version", []*wire.Reply{{Error: "unknown operation"}}, []string{broken}, nil, exit.NoGPU, "its log decides: pool-gpu: unknown operation", true},
		{"a_driver_that_hangs", []*wire.Reply{{Stalled: &wire.Stalled{Call: "nvmlInit"}}}, []string{all}, nil, exit.Ready, "nvmlInit has not returned", true},
		{"off", []*wire.Reply{granted}, []string{broken}, func(o *GPUOptions) { o.Proof = pool.ProofOff }, exit.Ready, "is not checked, as the pool's file asks", true},
		{"off_where_all_must_be_on_the_GPU", []*wire.Reply{granted}, []string{some}, func(o *GPUOptions) { o.Proof, o.Whole = pool.ProofOff, true }, exit.PartOnCPU, "10/33 layers", true},
		{"an_engine_without_layers_in_its_log", []*wire.Reply{holds, granted}, []string{none}, func(o *GPUOptions) { o.Engine = "vllm" }, exit.Ready, "5.0 GiB of G0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, err := os.Create(t.TempDir() + "/log")
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			helper := startHelper(t, c.replies...)
			o := GPUOptions{Devices: []string{"G0"}, Proof: pool.ProofAll, Engine: "llamacpp", Layers: every,
				Wait: 3 * proveAgain, Socket: helper.socket, Log: log.New(w, exit.LogPrefix, 0),
				MainPID: sleeper(t).Process.Pid, Invocation: "1",
				journalctl: journalOf(t, w.Name(), c.log), logWithin: 10 * time.Second}
			if c.change != nil {
				c.change(&o)
			}
			got := o.run(t.Context(), privileged)
			text, err := os.ReadFile(w.Name())
			if err != nil || got != c.want || !strings.Contains(string(text), c.says) {
				t.Errorf("exit %d, want %d, and %q in the log:\n%s", got, c.want, c.says, text)
			}
			asked := helper.questions()
			if ended := asked[len(asked)-1].Op == wire.OpRelease; ended != c.release {
				t.Errorf("the reservation is ended: %t, want %t", ended, c.release)
			}
		})
	}
	t.Run("an_engine_that_ends_meanwhile", func(t *testing.T) {
		cmd := sleeper(t)
		o := GPUOptions{Devices: []string{"G0"}, Proof: pool.ProofAll, Engine: "vllm", Wait: time.Hour,
			Socket: startHelper(t, lacks).socket, Log: newLog(os.Stderr), MainPID: cmd.Process.Pid}
		time.AfterFunc(2*proveAgain, func() { _ = cmd.Process.Kill() })
		if got := o.run(t.Context(), privileged); got != exit.EngineGone {
			t.Errorf("exit %d", got)
		}
	})
}

// privileged leaves this test its privileges.
func privileged() error { return nil }

// sleeper is the main process of an engine, which does nothing.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(waited) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-waited })
	return cmd
}

// journalOf is a program in journalctl's place: it prints the engine's lines, and then what the
// gate has logged first, with the gate's process id.
func journalOf(t *testing.T, log string, lines []string) string {
	var script strings.Builder
	for _, l := range lines {
		script.WriteString("cat <<'EOF'\n" + `{"_PID":"77","MESSAGE":"` + l + `"}` + "\nEOF\n")
	}
	script.WriteString("until [ -s " + log + " ]; do sleep 0.01; done\n" +
		`printf '{"_PID":"%s","MESSAGE":"%s"}\n' $PPID "$(head -n 1 ` + log + `)"` + "\nexec sleep 60\n")
	return program(t, script.String())
}
