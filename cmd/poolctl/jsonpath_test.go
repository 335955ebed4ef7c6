package main

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// TestTemplates: what a template makes of an answer.
func TestTemplates(t *testing.T) {
	const answer = `{"pools":[{"id":"a","state":"ready","slots":4,"hint":null,"replicas":[{"pid":1},{"pid":2}]},` +
		`{"id":"b","state":"failed","slots":12,"replicas":[{"pid":3}],"a.b":"dotted"}],"n":9007199254740993}`
	for _, c := range []struct{ name, template, want string }{
		{"name", "{.n}", "9007199254740993"},
		{"without_braces", ".pools[1].id", "b"},
		{"root", "{$.pools[0].id}", "a"},
		{"all", "{.pools[*].id}", "a b"},
		{"last", "{.pools[-1].id}", "b"},
		{"slice", "{.pools[0:1].id}", "a"},
		{"slice_from", "{.pools[1:].id}", "b"},
		{"slice_beyond", "{.pools[5:].id}", ""},
		{"quoted", "{.pools[1]['a.b']}", "dotted"},
		{"deep", "{..pid}", "1 2 3"},
		{"null", "[{.pools[0].hint}]", "[]"},
		{"object", "{.pools[0].replicas}", `[{"pid":1},{"pid":2}]`},
		{"whole_members", "{.pools[0].replicas[0].*}", "1"},
		{"equal", `{.pools[?(@.state=="ready")].id}`, "a"},
		{"not_equal", `{.pools[?(@.state!='ready')].id}`, "b"},
		{"numbers_not_texts", "{.pools[?(@.slots<12)].id}", "a"},
		{"at_least", "{.pools[?(@.slots>=12)].id}", "b"},
		{"has", "{.pools[?(@.hint)].id}", "a"},
		{"sign_in_a_value", `{.pools[?(@.id=="a]")].id}`, ""},
		{"range", `{range .pools[*]}{.id}{"\t"}{.state}{"\n"}{end}`, "a\tready\nb\tfailed\n"},
		{"range_in_range", `{range .pools[*]}{.id}:{range .replicas[*]} {.pid}{end};{end}`, "a: 1 2;b: 3;"},
		{"text", `has {"{braces}"}`, "has {braces}"},
		{"only_some_have_it", "{.pools[*]['a.b']}", "dotted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			template, err := parseTemplate(c.template)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			w := &pathWriter{to: &out, template: template}
			_, err = w.Write([]byte(answer + "\n"))
			if got := strings.TrimSuffix(out.String(), "\n"); err != nil || got != strings.TrimSuffix(c.want, "\n") {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestWrongTemplates: each is refused with what is wrong.
func TestWrongTemplates(t *testing.T) {
	for template, want := range map[string]string{
		"":                               "empty",
		"{.a":                            "not closed",
		"{.a[}":                          "not closed",
		"{a}":                            "begins with a dot",
		"{.a..}":                         "a name is missing",
		"{.a b}":                         "want a dot or a bracket",
		"{.a[x]}":                        "neither a number",
		"{.a[1:x]}":                      "[FROM:TO]",
		"{.a[?(@.b=1)]}":                 "want ==",
		"{.a[?(@.b==)]}":                 "a value is missing",
		"{.a[?(b==1)]}":                  "begins with a dot",
		"{end}":                          "without {range}",
		"{range .a[*]}":                  "without {end}",
		`{"\q"}`:                         "not a text in quotes",
		strings.Repeat("{range .a}", 99): "too many ranges",
	} {
		if _, err := parseTemplate(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", template, err, want)
		}
	}
}

// TestValuesCannotForgeRecords: an engine's text is one line of what a script reads.
func TestValuesCannotForgeRecords(t *testing.T) {
	template, err := parseTemplate(`{range .pools[*]}{.why}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w := &pathWriter{to: &out, template: template}
	if _, err := w.Write([]byte(`{"pools":[{"why":"x\nroot ready\u001b[2J"}]}` + "\n")); err != nil ||
		out.String() != "x root ready?[2J\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}

// FuzzTemplate: no template ends the program, and nothing printed moves the cursor.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"{.a}", "{range .a[*]}{.b}{end}", "{..x}", `{.a[?(@.b>"c")]['d']}`, "{.a[-1:2]}", "{.*.*}"} {
		f.Add(seed, `{"a":[{"b":"c","d":1}],"x":{"x":null}}`)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, text, answer string) {
		template, err := parseTemplate(text)
		if err != nil {
			return
		}
		var out strings.Builder
		w := &pathWriter{to: &out, template: template}
		_, err = w.Write([]byte(answer + "\n"))
		if err == nil {
			err = w.flush()
		}
		for _, r := range out.String() {
			if r != '\n' && r != '\t' && safe.Unsafe(r) {
				t.Fatalf("%q prints %q (%v)", text, out.String(), err)
			}
		}
	}))
}
