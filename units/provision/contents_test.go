package provision

import (
	"os"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestContents: other files behind the same path are another model, whatever their size and their
// modification time, and the same files are the same.
func TestContents(t *testing.T) {
	replace := func(d disk, name, text string) {
		d.file(name+".new", text, 0o644)
		if err := os.Rename(d.path(name+".new"), d.path(name)); err != nil {
			d.t.Fatal(err)
		}
	}
	cases := []struct {
		name   string
		model  string
		setup  func(d disk)
		change func(d disk)
		same   bool
	}{
		{"nothing_changed", "a.gguf", func(d disk) { d.file("a.gguf", "one", 0o644) }, func(disk) {}, true},
		{"a_link_is_swapped", "current.gguf", func(d disk) {
			d.file("a.gguf", "one", 0o644)
			d.file("b.gguf", "two", 0o644)
			d.link("a.gguf", "current.gguf")
		}, func(d disk) {
			os.Remove(d.path("current.gguf"))
			d.link("b.gguf", "current.gguf")
		}, false},
		{"a_file_is_replaced", "a.gguf", func(d disk) { d.file("a.gguf", "one", 0o644) },
			func(d disk) { replace(d, "a.gguf", "two") }, false},
		{"a_part_is_replaced", "m-00001-of-00002.gguf", func(d disk) {
			d.file("m-00001-of-00002.gguf", "one", 0o644)
			d.file("m-00002-of-00002.gguf", "one", 0o644)
		}, func(d disk) { replace(d, "m-00002-of-00002.gguf", "two") }, false},
		{"a_file_of_a_directory_is_replaced", "m", func(d disk) { d.file("m/config.json", "{}", 0o644) },
			func(d disk) { replace(d, "m/config.json", "{ }") }, false},
		{"a_file_is_added_to_a_directory", "m", func(d disk) { d.file("m/config.json", "{}", 0o644) },
			func(d disk) { d.file("m/adapter.safetensors", "x", 0o644) }, false},
		{"a_file_beside_it_is_nothing", "a.gguf", func(d disk) { d.file("a.gguf", "one", 0o644) },
			func(d disk) { d.file("b.gguf", "two", 0o644) }, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d, s := newDisk(t), &Stager{}
			c.setup(d)
			p := pool.Pool{ID: "a", Engine: engine.Program, Model: pool.Model("file:" + d.path(c.model))}
			before := s.Identify(t.Context(), p)
			c.change(d)
			if after := s.Identify(t.Context(), p); before == "" || (before == after) != c.same {
				t.Errorf("before %q, after %q", before, after)
			}
		})
	}
	t.Run("what_it_brings_along_belongs_to_it", func(t *testing.T) {
		d, s := newDisk(t), &Stager{}
		d.file("a.gguf", "one", 0o644)
		p := pool.Pool{ID: "a", Engine: engine.LlamaCpp, Model: pool.Model("file:" + d.path("a.gguf"))}
		alone := s.Identify(t.Context(), p)
		d.file("mmproj.gguf", "one", 0o644)
		p.Args, p.Files = []string{"--mmproj", d.path("mmproj.gguf")}, []string{d.path("a.jinja")}
		if got := s.Identify(t.Context(), p); got != pool.AbsentContents {
			t.Errorf("with a file that is missing: %q", got)
		}
		d.file("a.jinja", "x", 0o644)
		with := s.Identify(t.Context(), p)
		replace(d, "mmproj.gguf", "two")
		other := s.Identify(t.Context(), p)
		replace(d, "a.jinja", "y")
		if last := s.Identify(t.Context(), p); alone == with || with == other || other == last {
			t.Errorf("alone %q, with a projector %q, with another %q, with another template %q", alone, with, other,
				last)
		}
		p.APIKeyFile = d.file("key", "sk-1", 0o600)
		one := s.Identify(t.Context(), p)
		d.file("key.new", "sk-2", 0o600)
		if err := os.Rename(d.path("key.new"), d.path("key")); err != nil {
			t.Fatal(err)
		}
		if two := s.Identify(t.Context(), p); one == two {
			t.Errorf("with a key %q, with another %q", one, two)
		}
		p.EnvFiles = []string{d.file("env", "LLAMA_ARG_MMPROJ="+d.path("nowhere"), 0o600)}
		if got := s.Identify(t.Context(), p); got != pool.AbsentContents {
			t.Errorf("with a file that a file of variables names, and that is missing: %q", got)
		}
		d.file("env", "HF_TOKEN=a", 0o600)
		before := s.Identify(t.Context(), p)
		d.file("env", "HF_TOKEN=ab", 0o600)
		if after := s.Identify(t.Context(), p); before == after || before == pool.AbsentContents {
			t.Errorf("with a file of variables %q, with another %q", before, after)
		}
		p.Model, p.Engine = "", engine.Program
		if got := s.Identify(t.Context(), p); got == "" {
			t.Error("files of a pool without a model are nothing")
		}
	})
	t.Run("of_what_is_gone", func(t *testing.T) {
		d, s := newDisk(t), &Stager{}
		d.file("m-00001-of-00002.gguf", "one", 0o644)
		d.link("nowhere", "current.gguf")
		for _, name := range []string{"no.gguf", "current.gguf", "m-00001-of-00002.gguf"} {
			p := pool.Pool{Model: pool.Model("file:" + d.path(name))}
			if got := s.Identify(t.Context(), p); got != pool.AbsentContents {
				t.Errorf("%s is %q", name, got)
			}
		}
		if got := s.Identify(t.Context(), pool.Pool{}); got != "" {
			t.Errorf("no model is %q", got)
		}
	})
}
