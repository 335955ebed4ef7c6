package gate

import (
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// journal is a program in journalctl's place: it prints these lines, and then hands back what the
// gate has logged to the file so far as soon as that says that the engine answers, with the gate's
// process id, which is its parent's. The last of the lines come behind that where they follow an
// empty one.
func journal(t *testing.T, log string, lines ...string) string {
	before, behind := lines, []string(nil)
	if i := slices.Index(lines, ""); i >= 0 {
		before, behind = lines[:i], lines[i+1:]
	}
	print := func(lines []string) (script string) {
		for _, l := range lines {
			script += "cat <<'EOF'\n" + l + "\nEOF\n"
		}
		return script
	}
	script := print(before) + "until grep -q answers " + log + "; do sleep 0.01; done\n" +
		`printf '{"_PID":"%s","MESSAGE":"%s"}\n' $PPID "$(grep answers ` + log + `)"` + "\n" +
		print(behind) + "exec sleep 60\n"
	return program(t, script)
}

func TestGateReadsTheLogForTheGPU(t *testing.T) {
	line := func(pid, message string) string { return `{"_PID":"` + pid + `","MESSAGE":` + message + `}` }
	cases := []struct {
		name   string
		engine string
		cpu    bool // the engine was given no GPU
		lines  []string
		script string // in place of the lines
		want   int
		says   string
	}{
		{"on_its_GPU", "llamacpp", false, []string{line("77", `"load_tensors: offloaded 33/33 layers to GPU"`)}, "", exit.Ready, "the engine answers after"},
		{"on_the_CPU", "llamacpp", false, []string{line("77", `"one"`), line("77", `"load_tensors: offloaded 0/33 layers to GPU"`)}, "", exit.NoGPU,
			`the engine was given a GPU and runs without it: the engine put no layer of the model on its GPU; its log says "load_tensors: offloaded 0/33 layers to GPU"`},
		{"on_the_CPU_in_a_line_that_waited_longer", "llamacpp", false, []string{line("77", `"one"`), "", line("77", `"two"`), line("77", `"no usable GPU found"`)}, "",
			exit.NoGPU, "the engine found no usable GPU"},
		{"on_the_CPU_in_colours", "llamacpp", false, []string{line("77", numbers("\x1b[31mno usable GPU found\x1b[0m"))}, "", exit.NoGPU, "no usable GPU found"},
		{"on_the_CPU_as_was_asked", "llamacpp", true, []string{line("77", `"load_tensors: offloaded 0/33 layers to GPU"`)}, "", exit.Ready, "the engine answers after"},
		{"another_engines_words", "vllm", false, []string{line("77", `"load_tensors: offloaded 0/33 layers to GPU"`)}, "", exit.Ready, "the engine answers after"},
		{"the_gates_own_words", "llamacpp", false, []string{line(strconv.Itoa(os.Getpid()), `"no usable GPU found"`)}, "", exit.Ready, "the engine answers after"},
		{"text_that_is_none", "llamacpp", false, []string{line("77", `null`), "not json", line("77", `{}`)}, "", exit.Ready, "the engine answers after"},
		{"a_journal_that_is_not_to_be_read", "llamacpp", false, nil, "exit 1", exit.Ready, "unknown whether it uses its GPU: journalctl ended"},
		{"a_journal_that_hangs", "llamacpp", false, nil, "exec sleep 60", exit.Ready, "the journal did not answer within 2s"},
		{"a_line_without_end", "llamacpp", false, nil, "head -c 3000000 /dev/zero | tr '\\0' x; exec sleep 60", exit.Ready, "unknown whether it uses its GPU: bufio.Scanner: token too long"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := t.TempDir() + "/log"
			w, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			o, _ := start(t, freePort(t), "healthy-after 1ms")
			o.Invocation, o.Engine, o.GPU, o.Log = "1", c.engine, !c.cpu, log.New(w, exit.LogPrefix, 0)
			journalctl := journal(t, file, c.lines...)
			if c.script != "" {
				o.logWithin = 2 * time.Second
				journalctl = program(t, c.script)
			}
			got := decideWith(t, o, journalctl)
			text, err := os.ReadFile(file)
			if err != nil || got != c.want || !strings.Contains(string(text), c.says) {
				t.Errorf("exit %d, want %d, and %q in the log:\n%s", got, c.want, c.says, text)
			}
			if sure := !strings.Contains(string(text), "unknown whether"); sure != (c.script == "") {
				t.Errorf("is it sure of the answer? %t:\n%s", sure, text)
			}
		})
	}
	t.Run("no_journalctl", func(t *testing.T) {
		var log strings.Builder
		o, _ := start(t, freePort(t), "healthy-after 1ms")
		o.Invocation, o.Engine, o.GPU, o.Log = "1", "llamacpp", true, newLog(&log)
		if got := decide(t, o); got != exit.Ready || !strings.Contains(log.String(), "unknown whether") {
			t.Errorf("exit %d:\n%s", got, &log)
		}
	})
}

// numbers is a text as journalctl writes one that is not printable.
func numbers(text string) string {
	var list []string
	for _, b := range []byte(text) {
		list = append(list, strconv.Itoa(int(b)))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte(`{"_PID":"7","MESSAGE":[1,2]}`))
	f.Add([]byte(`{"_PID":7,"MESSAGE":[[1]]}`))
	f.Fuzz(mutate.Many(func(t *testing.T, line []byte) {
		if _, text := logLine(line); len(text) > len(line)*3 { // an invalid byte becomes U+FFFD
			t.Errorf("%q became %q", line, text)
		}
	}))
}
