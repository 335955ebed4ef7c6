package engine_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// recorded is a file below testdata/answers and what is read from it; "" where the engine has no
// such endpoint.
type recorded struct {
	file string
	want int
}

// answersSuite reads what the engine answered. An endpoint without a recorded answer is a failure,
// and so is a recorded answer without an endpoint.
func answersSuite(t *testing.T, s subject, a engine.Adapter) {
	for _, c := range []struct {
		name, path string
		read       func([]byte) (int, error)
		recorded   recorded
	}{
		{"slots", a.SlotsPath(), a.Slots, s.slots},
		{"busy", a.BusyPath(), a.Busy, s.busy},
		{"queue", a.QueuePath(), a.Queue, s.queue},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, ok := answer(t, c.path, c.recorded.file)
			if !ok {
				return
			}
			if n, err := c.read(body); err != nil || n != c.recorded.want {
				t.Errorf("%s: %d, %v; want %d", c.recorded.file, n, err, c.recorded.want)
			}
			for _, lie := range lies(body) {
				if n, err := c.read(lie); n < 0 || n > bounds.Requests || err != nil && n != 0 || c.name == "slots" &&
					n > bounds.Slots {
					t.Errorf("%d, %v out of %q", n, err, lie)
				}
			}
		})
	}
	t.Run("generation", func(t *testing.T) {
		body, ok := answer(t, a.GeneratePath(), s.generated)
		if !ok {
			return
		}
		if err := a.Generated(body); err != nil {
			t.Errorf("%s: %v", s.generated, err)
		}
		if a.Generated([]byte(`{"error":"overloaded"}`)) == nil {
			t.Error("an error is taken for a generation")
		}
	})
	t.Run("progress", func(t *testing.T) {
		one, ok := answer(t, a.ProgressPath(), s.before)
		two, _ := answer(t, a.ProgressPath(), s.after)
		if !ok {
			return
		}
		first, err := a.Progress(one)
		second, err2 := a.Progress(two)
		if err != nil || err2 != nil || first == second {
			t.Errorf("%q, %v; %q, %v", first, err, second, err2)
		}
		for _, lie := range append(lies(one), []byte(strings.Repeat(string(one), 3))) {
			if mark, err := a.Progress(lie); len(mark) > bounds.Mark || (mark == "") != (err != nil) {
				t.Errorf("%d bytes, %v out of %q", len(mark), err, lie)
			}
		}
	})
}

// answer reads a recorded answer; ok is false where the engine has no such endpoint.
func answer(t *testing.T, path, file string) (body []byte, ok bool) {
	t.Helper()
	if (path == "") != (file == "") {
		t.Fatalf("the endpoint is %q, and the recorded answer %q", path, file)
	}
	if path == "" {
		return nil, false
	}
	body, err := os.ReadFile(filepath.Join("testdata", "answers", file))
	if err != nil {
		t.Fatal(err)
	}
	return body, true
}

var number = regexp.MustCompile(`[0-9]+`)

// lies are a recorded answer with all of its numbers beyond reason.
func lies(body []byte) (out [][]byte) {
	for _, n := range []string{"9223372036854775807", "18446744073709551616", "1e308", "-1", "NaN", "+Inf", "0.5",
		`"4"`, "null", "[]"} {
		out = append(out, number.ReplaceAllLiteral(body, []byte(n)))
	}
	return out
}

// memorySuite holds what an adapter says of memory to itself.
func memorySuite(t *testing.T, s subject, a engine.Adapter) {
	p := wanted(s.kind)
	known := []engine.Weights{engine.GGUF, engine.Safetensors, engine.Repository, engine.Anything}
	if !slices.Contains(known, a.Weights()) {
		t.Errorf("weights %q", a.Weights())
	}
	claim := a.Claim(p, "1.2.3")
	if claim.Share < 0 || claim.Share > 1 || (claim.Share > 0) != strings.HasPrefix(claim.Flag, "--") || claim.Firm &&
		claim.Share == 0 {
		t.Errorf("claim %+v: a share and the flag that lowers it, or neither", claim)
	}
	if claim.Share > 0 {
		lower := a.Claim(wanted(s.kind, claim.Flag, "0.25"), "1.2.3")
		if lower.Share <= 0 || lower.Share > 0.25 {
			t.Errorf("%s 0.25 gives %+v", claim.Flag, lower)
		}
	}
	run, err := a.Run(p, at("0"))
	if (err == nil) != (a.Weights() == engine.GGUF) {
		t.Errorf("loads %s, and runs by %+v, %v", a.Weights(), run, err)
	}
	if err == nil && (run.Slots < 1 || run.Batch < 1 || !slices.Contains(a.CacheTypes(), run.K)) {
		t.Errorf("run %+v", run)
	}
	for _, kind := range a.CacheTypes() {
		run, err := a.Run(wanted(s.kind, a.CacheArgs(kind)...), at("0"))
		if err != nil || run.K != kind || run.V != kind {
			t.Errorf("%q gives %+v, %v; want %s", a.CacheArgs(kind), run, err, kind)
		}
	}
	if len(a.CacheTypes()) == 0 && a.CacheArgs("f16") != nil {
		t.Error("arguments for a type of which it has no choice")
	}
	split := wanted(s.kind)
	split.Devices, split.TensorSplit = [][]string{{"0", "1"}}, []float64{0.5, 0.5}
	if refused := a.Check(split); (len(refused) == 0) != a.SplitsByShare() {
		t.Errorf("splits by share: %t, and tensor_split is refused with %v", a.SplitsByShare(), refused)
	}
	empty := pool.Pool{Engine: s.kind}
	if refused := a.Check(empty); (len(refused) == 0) != (a.Weights() == engine.Anything) {
		t.Errorf("loads %s, and without a model is refused with %v", a.Weights(), refused)
	}
}

// fallbackSuite: an engine with a GPU says when it does without, or an adapter says so by a list
// that is empty on purpose.
func fallbackSuite(t *testing.T, s subject, a engine.Adapter) {
	matched := false
	for _, c := range fallbackCases {
		_, ok := classify.OnCPU(a.Fallbacks(), c.line)
		matched = matched || c.kind == s.kind && ok
	}
	if matched == s.silent {
		t.Errorf("no case of TestFallback has a line of this engine's; or take silent off")
	}
	for _, f := range a.Fallbacks() {
		if f.Why == "" || !strings.HasPrefix(f.Pattern.String(), "(?i)") || f.Pattern.MatchString("") {
			t.Errorf("%s: %q", f.Pattern, f.Why)
		}
	}
	for _, line := range []string{"", "INFO: Uvicorn running on http://127.0.0.1:21000", "main: server is listening"} {
		if why, ok := classify.OnCPU(a.Fallbacks(), line); ok {
			t.Errorf("%q: %s", line, why)
		}
	}
}

// TestUsual: a model that is named without an engine has one.
func TestUsual(t *testing.T) {
	for directory, want := range map[bool]engine.Weights{true: engine.Safetensors, false: engine.GGUF} {
		if a, ok := engine.For(engine.Usual(directory)); !ok || a.Weights() != want {
			t.Errorf("directory %t: %v", directory, a)
		}
	}
	if len(engine.WithoutModel()) == 0 {
		t.Error("no engine can do without a model")
	}
}
