package convert_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/convert"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// TestHostile: sources that are too large, no text, or made to grow end with an error that names
// the file, or with bounded notes.
func TestHostile(t *testing.T) {
	long := strings.Repeat("x", convert.MaxBytes)
	for _, c := range []struct {
		name, file, text string
		want             string // in the error or the notes
	}{
		{"empty", "a.yaml", " \n\t", "the file is empty"},
		{"too_large", "a.yaml", long + "x", "want at most 1048576"},
		{"binary", "a.service", "[Service]\nExecStart=/usr/bin/\x00", "not a text file"},
		{"latin1", "a.service", "[Service]\nExecStart=/usr/bin/\xe9", "not a text file"},
		{"deep", "a.yaml", "models: " + strings.Repeat("[", 5000), "a.yaml"},
		{"no_mapping", "a.yaml", "- 1", "no models"},
		{"list_as_key", "a.yaml", "models: {[1]: {}}", "is no text"},
		{"two_documents", "a.yaml", "a: 1\n---\nmodels: {a: {cmd: x}}", "no models"},
		{"many_models", "a.yaml", manyModels(1001), "1001 models; want at most 1000"},
		{"long_macro", "a.yaml", "macros: {a: " + strings.Repeat("y", 9000) + ", b: '" + strings.Repeat("${a}", 9) +
			"'}\nmodels: {m: {cmd: '${b} ${b}'}}", "longer than 65536 bytes"},
		{"long_line", "a.service", "[Service]\n" + strings.Repeat("k",
			1<<19) + "=v\nExecStart=/usr/bin/llama-server -m /a.gguf",
			"no key of a pool file"},
		{"many_wrappers", "a.service", "[Service]\nExecStart=" + strings.Repeat("/usr/bin/nohup ", 9) + "x",
			"start each other"},
		{"variable_of_itself", "a.service", "[Service]\nEnvironment=A=${A}${A}\nExecStart=/usr/bin/llama-server " +
			"-m ${A}${A}", "does not set"},
		{"line_breaks_in_a_comment", "a.yaml", "models: {\"a\\nengine = 1\": {cmd: 'llama-server -m /a.gguf', " +
			"\"b\\u2028c\": 1}}", "unknown key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := convert.Convert(convert.Source{Name: c.file, Data: []byte(c.text)})
			checkAll(t, r)
			got := show(r, err)
			if !strings.Contains(got, c.want) || len(got) > 1<<16 {
				t.Errorf("got %.2000s, want %q in it", got, c.want)
			}
		})
	}
}

func manyModels(n int) string {
	var b strings.Builder
	b.WriteString("models:\n")
	for i := range n {
		fmt.Fprintf(&b, "  m%d: {cmd: 'llama-server -m /a.gguf'}\n", i)
	}
	return b.String()
}

// TestNothingIsLost: each key of a unit that is not translated is named in a note, however many
// there are.
func TestNothingIsLost(t *testing.T) {
	var unit strings.Builder
	unit.WriteString("[Service]\nExecStart=/usr/bin/llama-server -m /a.gguf\n")
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("ProtectSomethingWithALongName%d", i), fmt.Sprintf("Unheard%d", i))
	}
	for _, name := range names {
		unit.WriteString(name + "=yes\n")
	}
	r, err := convert.Convert(convert.Source{Name: "a.service", Data: []byte(unit.String())})
	got := show(r, err)
	for _, name := range names {
		if !strings.Contains(got, name) {
			t.Errorf("%s is in no note", name)
		}
	}
}

// TestDropInsOfSwap: only unit files have drop-ins.
func TestDropInsOfSwap(t *testing.T) {
	_, err := convert.Convert(convert.Source{Name: "a.yaml", Data: []byte("models: {}")},
		convert.Source{Name: "b.conf", Data: []byte("[Service]")})
	if err == nil || !strings.Contains(err.Error(), "no drop-ins, and b.conf was given") {
		t.Error(err)
	}
}

// TestSecrets: the value of an option or a variable for a secret is in no result, whatever the
// source is.
func TestSecrets(t *testing.T) {
	for _, c := range []struct{ name, file, text string }{
		{"option", "a.service", "[Service]\nExecStart=/usr/bin/llama-server -m /a.gguf --api-key %s"},
		{"option_with_equals", "a.service", "[Service]\nExecStart=/usr/bin/vllm serve /srv/a --api-key=%s"},
		{"unknown_option", "a.service", "[Service]\nExecStart=/usr/bin/llama-server -m /a.gguf --my-token=%s " +
			"--other-secret %s"},
		{"short_word", "a.service", "[Service]\nExecStart=/usr/bin/x --password %s --x-api-key %s"},
		{"variable", "a.service", "[Service]\nEnvironment=HF_TOKEN=%s\nExecStart=/usr/bin/vllm serve /srv/a"},
		{"command_line", "a.yaml", "models: {a: {cmd: 'env HF_TOKEN=%s llama-server -m /a.gguf'}}"},
		{"container", "a.yaml", "models: {a: {cmd: 'docker run -e HF_TOKEN=%s ghcr.io/ggml-org/llama.cpp -m " +
			"/a.gguf'}}"},
		{"list", "a.yaml", "apiKeys: ['%s']\nmodels: {a: {cmd: 'llama-server -m /a.gguf', env: ['X_TOKEN=%s']}}"},
		{"quadlet", "a.container", "[Container]\nImage=vllm\nEnvironment=VLLM_API_KEY=%s\nExec=--model /a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.ReplaceAll(c.text, "%s", "hunter2-hunter2")
			r, err := convert.Convert(convert.Source{Name: c.file, Data: []byte(text)})
			if got := show(r, err); strings.Contains(got,
				"hunter2") || len(r.Pools) != 1 || !strings.Contains(got, "not copied") {
				t.Error(got)
			}
		})
	}
}

// TestEveryEngine: each engine with a program of its own is recognised by it, and what its adapter
// writes is taken apart into the keys that it was written from.
func TestEveryEngine(t *testing.T) {
	for _, kind := range engine.Kinds() {
		a, _ := engine.For(kind)
		if len(a.Foreign().Programs) == 0 {
			if !slices.Contains(engine.WithoutModel(), kind) {
				t.Errorf("engine %s cannot be recognised", kind)
			}
			continue
		}
		t.Run(kind, func(t *testing.T) {
			text := "engine = \"" + kind + "\"\nmodel = \"file:/srv/models/a\"\ndevices = [0, 1]\nslots = 3\nport " +
				"= 8123\n"
			if kind != engine.Triton {
				text += "ctx = 512\n"
			}
			p := pools(t, text)
			c := a.Command(p, engine.Instance{Model: "/srv/models/a", Host: "127.0.0.1", Port: 8123,
				Devices: []string{"GPU-a", "GPU-b"}})
			line := a.Foreign().Programs[0] + " " + strings.Join(c.Args, " ")
			unit := "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=0,1 CUDA_DEVICE_ORDER=PCI_BUS_ID\nExecStart=" + line
			r, err := convert.Convert(convert.Source{Name: "a.service", Data: []byte(unit)})
			if err != nil || len(r.Pools) != 1 {
				t.Fatal(show(r, err))
			}
			back := pools(t, r.Pools[0].Text)
			if kind == engine.Triton {
				back.Slots = p.Slots // which its command line does not have
			}
			if back.Engine != p.Engine || back.Model != p.Model || back.Ctx != p.Ctx || back.Slots != p.Slots ||
				back.Port != p.Port || fmt.Sprint(back.Devices) != fmt.Sprint(p.Devices) {
				t.Errorf("%s became\n%s", line, r.Pools[0].Text)
			}
		})
	}
}
