package record

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const machine = "0123456789abcdef0123456789abcdef"

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// cached is a model with so many files of a size.
func cached(name string, files int, size int64) wire.CachedModel {
	c := wire.CachedModel{Model: name, Files: files, Bytes: int64(files) * size, Pools: []string{"x"}}
	for i := range files {
		c.Digests = append(c.Digests, digest(i))
	}
	return c
}

// TestModelsDescribed: the list is as the page's schema has it.
func TestModelsDescribed(t *testing.T) {
	r := ModelsOf(machine, []wire.CachedModel{cached("hf:a/b", 2, 7), {Model: "x", Files: 1}})
	for _, content := range [][]byte{Encode(r), Encode(ModelsOf(machine, nil))} {
		var value map[string]any
		if err := json.Unmarshal(content, &value); err != nil {
			t.Fatal(err)
		}
		if err := described(t, "models").Validate(value); err != nil {
			t.Errorf("%s\n%v", content, err)
		}
		if strings.Contains(string(content), "null") {
			t.Errorf("null in %s", content)
		}
	}
}

// TestModelsOf: what moves while a download is under way is no part of the list, which is by name;
// of a cache beyond the bounds, the largest models are in it.
func TestModelsOf(t *testing.T) {
	small, large := cached("hf:z/small", 1, 1), cached("hf:a/large", 3, 1<<30)
	begun := wire.CachedModel{Model: "hf:b/begun", Partial: 7}
	part := cached("hf:c/part", 1, 5)
	part.Partial = 1
	r := ModelsOf(machine, []wire.CachedModel{small, part, large, begun})
	var got []string
	for _, m := range r.Models {
		got = append(got, fmt.Sprint(m.Model, m.Whole, len(m.Digests)))
	}
	if want := "hf:a/largetrue 3 hf:c/partfalse 1 hf:z/smalltrue 1"; strings.Join(got, " ") != want || r.Truncated {
		t.Errorf("%s, truncated: %t", strings.Join(got, " "), r.Truncated)
	}
	more := part
	more.Partial, more.UsedMS = 900, new(int64)
	if string(Encode(ModelsOf(machine, []wire.CachedModel{part}))) !=
		string(Encode(ModelsOf(machine, []wire.CachedModel{more}))) {
		t.Error("progress of a download changes the list")
	}
	var many []wire.CachedModel
	for i := range 5000 {
		many = append(many, cached(fmt.Sprintf("hf:org/%04d", i), 1+i%3, int64(i)))
	}
	r = ModelsOf(machine, append(many, cached("hf:a/sharded", 500, 1<<30)))
	content := Encode(r)
	if !r.Truncated || len(content) > modelsLimit*3/2 || len(r.Models) < 100 {
		t.Errorf("%d models in %d bytes, truncated: %t", len(r.Models), len(content), r.Truncated)
	}
	if r.Models[0].Model != "hf:a/sharded" || len(r.Models[0].Digests) != digestsLimit {
		t.Errorf("%s with %d digests", r.Models[0].Model, len(r.Models[0].Digests))
	}
	odd := ModelsOf(machine, []wire.CachedModel{{Model: strings.Repeat("\xff\xc3", 900), Files: 1}})
	if name := odd.Models[0].Model; !utf8.ValidString(name) || len(name) > textLimit+8 {
		t.Errorf("%q", name)
	}
}

func FuzzDecodeModels(f *testing.F) {
	f.Add(Encode(ModelsOf(machine, []wire.CachedModel{cached("hf:a/b", 2, 7)})))
	f.Add([]byte(`{"schema":1,"models":[{"model":"x","bytes":1e3}]}`))
	f.Add([]byte(`{"schema":2,"models":null}`))
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte) {
		m, err := DecodeModels(content)
		if (err == nil) != (m.Schema == Schema) {
			t.Fatalf("%+v, %v", m, err)
		}
		if err == nil {
			if again, err := DecodeModels(Encode(m)); err != nil || len(again.Models) != len(m.Models) {
				t.Fatalf("%+v, %v", again, err)
			}
		}
	}))
}
