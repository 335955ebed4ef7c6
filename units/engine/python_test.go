package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestPythonAsBinary: a Python runs the engines that are modules, which have a question for their
// version then; an engine with a program of its own refuses it, and names the one beside it.
func TestPythonAsBinary(t *testing.T) {
	for kind, program := range map[string]string{engine.VLLM: "", engine.SGLang: "", engine.Program: "",
		engine.LlamaCpp: "llama-server", engine.TRTLLM: "trtllm-serve", engine.TGI: "text-generation-launcher",
		engine.Triton: "tritonserver"} {
		t.Run(kind, func(t *testing.T) {
			a, _ := engine.For(kind)
			p := pool.Pool{Engine: kind, Model: "file:/m", Devices: [][]string{{"0"}},
				Provisioning: pool.Provisioning{Binary: "/opt/e/bin/python3.12"}}
			question := strings.Join(a.VersionArgs(p.Provisioning.Binary), " ")
			refused := a.Check(p)
			i := slices.IndexFunc(refused, func(r pool.Refusal) bool { return r.Key == "provisioning.binary" })
			switch {
			case (i >= 0) != (program != ""):
				t.Errorf("refused: %+v", refused)
			case i >= 0 && !strings.Contains(refused[i].Hint, "/opt/e/bin/"+program):
				t.Errorf("the hint is %q", refused[i].Hint)
			case program == "" && kind != engine.Program && !strings.HasPrefix(question, "-"):
				t.Errorf("the version is asked by %q", question)
			}
		})
	}
}
