package convert_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/convert"
)

// secret is in no pool file and no note, wherever a source has it as the value of an option or a
// variable for one.
const secret = "sk-aaaaBBBBccccDDDD1111"

// FuzzConvert: whatever the text is, each pool file is accepted, the result is the same each time,
// an error comes without pools, and no secret is copied.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		f.Fatal("no cases to begin with", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(data), resultMark)
		name, text, _ := strings.Cut(input, "\n")
		f.Add(strings.TrimSuffix(strings.TrimPrefix(name, sourceMark), " <=="), text)
	}
	f.Add("a.service", "[Service]\nExecStart=/usr/bin/llama-server -m /a.gguf --api-key "+secret)
	f.Fuzz(mutate.Many(func(t *testing.T, name, text string) {
		if len(text) > 1<<14 || strings.ContainsAny(name, "\r\n\x00") {
			t.Skip()
		}
		source := convert.Source{Name: name, Data: []byte(text)}
		r, err := convert.Convert(source)
		if err != nil && len(r.Pools) > 0 {
			t.Fatalf("an error and pools: %v", err)
		}
		again, _ := convert.Convert(source)
		if show(again, err) != show(r, err) {
			t.Fatalf("not the same twice:\n%s\n%s", show(r, err), show(again, err))
		}
		for _, p := range r.Pools {
			if _, problems := config.ParsePool(p.ID+".toml", []byte(p.Text), config.DefaultHost()); len(problems) > 0 {
				t.Fatalf("%v in\n%s", problems, p.Text)
			}
		}
		if strings.Contains(show(r, err), secret) {
			t.Fatalf("the secret was copied:\n%s", show(r, err))
		}
	}))
}
