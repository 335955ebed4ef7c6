package exposition

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// read returns the samples of a page as text.
func read(body string, names ...string) (string, error) {
	var out []string
	err := Read([]byte(body), func(name []byte) bool {
		for _, n := range names {
			if string(name) == n {
				return true
			}
		}
		return len(names) == 0
	}, func(s Sample) error {
		out = append(out, fmt.Sprintf("%s|%s|%v", s.Name, s.Label("le"), s.Value))
		return nil
	})
	return strings.Join(out, " "), err
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"a_value", "a 1\n", "a||1"},
		{"without_a_newline", "a 1", "a||1"},
		{"windows_newlines", "a 1\r\na 2\r\n", "a||1 a||2"},
		{"comments_and_empty_lines", "# HELP a b\n# TYPE a counter\n\na 1\n# EOF\n", "a||1"},
		{"colons_as_llama_cpp_has_them", "llamacpp:n 3\n", "llamacpp:n||3"},
		{"a_timestamp", "a 1 1764000000000\n", "a||1"},
		{"labels", `a{b="c",le="0.5"} 2`, "a|0.5|2"},
		{"labels_with_spaces_and_a_last_comma", `a { b = "c" , le = "+Inf" , } 2`, "a|+Inf|2"},
		{"no_labels_in_braces", "a{} 2", "a||2"},
		{"braces_commas_and_quotes_in_a_value", `a{b="},\"{=",le="1"} 2`, "a|1|2"},
		{"escapes", `a{le="x\\y\"z"} 2`, `a|x\y"z|2`},
		{"special_values", "a NaN\na +Inf\na -Inf\na 1e400\na -1.5e-3", "a||NaN a||+Inf a||-Inf a||+Inf a||-0.0015"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(c.body)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	many := "a{" + strings.Repeat(`b="c",`, maxLabels+1) + "} 1"
	for name, line := range map[string]string{
		"no_value": "a", "no_value_behind_labels": `a{b="c"}`, "three_values": "a 1 2 3", "no_number": "a x",
		"hexadecimal": "a 0x10", "underscores": "a 1_000", "open_labels": `a{b="c" 1`, "open_quote": `a{b="c} 1`,
		"no_quote": "a{b=c} 1", "no_equals": `a{"b"} 1`, "name_of_a_label": `a{b:c="d"} 1`, "digit": `a{1b="d"} 1`,
		"no_comma": `a{b="c"d="e"} 1`, "a_strange_escape": `a{b="\x"} 1`, "escape_at_the_end": `a{b="\`,
		"float_timestamp": "a 1 1.5", "too_many_labels": many, "too_many_samples": strings.Repeat("a 1\n", maxSamples+1),
		"an_exemplar": `a{le="1"} 1 # {trace_id="x"} 1`, "value_at_once": "a~1",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := read(line, "a"); !errors.Is(err, ErrMalformed) {
				t.Errorf("read as %.80q, %v", got, err)
			}
			if got, err := read(line+"\nb 1\n", "b"); err != nil || got != "b||1" {
				t.Errorf("a line that is not wanted: %q, %v", got, err)
			}
		})
	}
}

// TestUnwantedLinesCostNothing: vLLM's page has thousands.
func TestUnwantedLinesCostNothing(t *testing.T) {
	body := []byte(strings.Repeat(`vllm:x_bucket{engine="0",le="0.1",model_name="demo"} 12.0`+"\n", 4000))
	allocs := testing.AllocsPerRun(3, func() {
		if err := Read(body, func([]byte) bool { return false }, func(Sample) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzRead: a sample is of a name that was wanted, and its labels can be read again.
func FuzzRead(f *testing.F) {
	f.Add("a{b=\"c\",le=\"0.5\"} 1 2\na NaN\n", "a")
	f.Add("a{b=\"\\\\\\\"\\n\"} 1e999\n# a 1\n", "a")
	f.Add("a{,} 1\na{b=\"c\",,} 1\n\xff 1\n", "a")
	f.Fuzz(mutate.Many(func(t *testing.T, body, want string) {
		err := Read([]byte(body), func(name []byte) bool { return string(name) == want }, func(s Sample) error {
			if s.Name != want || s.Name == "" || strings.ContainsAny(s.Name, " \t\r\n{}\"#") {
				t.Errorf("a sample of %q, want %q", s.Name, want)
			}
			if n, ok := labelsLength(s.labels + "}"); !ok || n != len(s.labels) {
				t.Errorf("labels %q are not read again", s.labels)
			}
			_ = s.Label("le")
			return nil
		})
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%v", err)
		}
	}))
}
