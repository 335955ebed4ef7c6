package library_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// cache is a cache on disk.
type cache struct {
	t   testing.TB
	dir string
}

func (c cache) write(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		c.t.Fatal(err)
	}
}

// file puts a blob into a repository, and a link to it into the snapshot.
func (c cache) file(repo, name, blob, text string) {
	c.t.Helper()
	c.write(repo+"/blobs/"+blob, text)
	link := filepath.Join(c.dir, repo, "snapshots", "c0ffee", name)
	up, err := filepath.Rel(filepath.Dir(link), filepath.Join(c.dir, repo, "blobs", blob))
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(up, link)); err != nil {
		c.t.Fatal(err)
	}
}

func ref(t testing.TB, text string) modelref.Ref {
	t.Helper()
	r, err := modelref.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const repo = "models--acme--tiny"

// TestFind: what is in the cache is found offline, and is whole only when everything that the
// reference means is there with its size.
func TestFind(t *testing.T) {
	tree := func(files string) func(c cache) {
		return func(c cache) { c.write(repo+"/trees/c0ffee.json", `{"format_version":1,"files":{`+files+`}}`) }
	}
	main := func(c cache) { c.write(repo+"/refs/main", "c0ffee\n") }
	file := func(name, text string) func(c cache) {
		return func(c cache) { c.file(repo, name, "b-"+filepath.Base(name), text) }
	}
	for _, c := range []struct {
		name  string
		setup []func(c cache)
		ref   string
		path  string // below the snapshots; empty: nothing
		whole library.Whole
	}{
		{"an_empty_cache", nil, "hf:acme/tiny/a.gguf", "", library.No},
		{"a_file", []func(cache){main, file("a.gguf", "x")}, "hf:acme/tiny/a.gguf", "c0ffee/a.gguf", library.Yes},
		{"a_file_of_a_folder", []func(cache){main, file("q4/a.gguf", "x")}, "hf:acme/tiny/q4/a.gguf", "c0ffee/q4/a.gguf", library.Yes},
		{"by_its_commit", []func(cache){file("a.gguf", "x")}, "hf:acme/tiny@c0ffee/a.gguf", "c0ffee/a.gguf", library.Yes},
		{"of_another_revision", []func(cache){main, file("a.gguf", "x")}, "hf:acme/tiny@dev/a.gguf", "", library.No},
		{"a_revision_with_a_slash", []func(cache){file("a.gguf", "x"), func(c cache) { c.write(repo+"/refs/refs/pr/7", "c0ffee") }},
			"hf:acme/tiny@refs%2Fpr%2F7/a.gguf", "c0ffee/a.gguf", library.Yes},
		{"a_file_of_another_size", []func(cache){main, file("a.gguf", "x"), tree(`"a.gguf":{"size":2}`)}, "hf:acme/tiny/a.gguf", "", library.No},
		{"another_file_only", []func(cache){main, file("b.gguf", "x")}, "hf:acme/tiny/a.gguf", "", library.No},
		{"a_link_to_nothing", []func(cache){main, file("a.gguf", "x"), func(c cache) { _ = os.Remove(filepath.Join(c.dir, repo, "blobs/b-a.gguf")) }},
			"hf:acme/tiny/a.gguf", "", library.No},
		{"all_parts", []func(cache){main, file("a-00001-of-00002.gguf", "x"), file("a-00002-of-00002.gguf", "y"),
			tree(`"a-00001-of-00002.gguf":{"size":1},"a-00002-of-00002.gguf":{"size":1},"b.gguf":{"size":9}`)},
			"hf:acme/tiny/a-00001-of-00002.gguf", "c0ffee/a-00001-of-00002.gguf", library.Yes},
		{"a_part_is_missing", []func(cache){main, file("a-00001-of-00002.gguf", "x"),
			tree(`"a-00001-of-00002.gguf":{"size":1},"a-00002-of-00002.gguf":{"size":1}`)},
			"hf:acme/tiny/a-00001-of-00002.gguf", "", library.No},
		{"a_quantisation", []func(cache){main, file("tiny-Q4_K_M.gguf", "x"), file("tiny-UD-Q4_K_M.gguf", "x"), file("mmproj-Q4_K_M.gguf", "x")},
			"hf:acme/tiny:q4_k_m", "c0ffee/tiny-Q4_K_M.gguf", library.Yes},
		{"a_quantisation_in_a_folder", []func(cache){main, file("Q8_0/tiny.gguf", "x"), file("Q4_0/tiny.gguf", "xy")},
			"hf:acme/tiny:Q8_0", "c0ffee/Q8_0/tiny.gguf", library.Yes},
		{"another_quantisation", []func(cache){main, file("tiny-Q4_K_M.gguf", "x")}, "hf:acme/tiny:Q4_K", "", library.No},
		{"a_repository", []func(cache){main, file("config.json", "{}"), file("w.safetensors", "x"), tree(`"config.json":{"size":2},"w.safetensors":{"size":1}`)},
			"hf:acme/tiny", "c0ffee", library.Yes},
		{"a_repository_with_a_hole", []func(cache){main, file("config.json", "{}"), tree(`"config.json":{"size":2},"w.safetensors":{"size":1}`)},
			"hf:acme/tiny", "", library.No},
		{"a_repository_without_a_list", []func(cache){main, file("config.json", "{}")}, "hf:acme/tiny", "c0ffee", library.Unknown},
		{"a_list_that_is_none", []func(cache){main, file("a.gguf", "x"), func(c cache) { c.write(repo+"/trees/c0ffee.json", "{") }},
			"hf:acme/tiny/a.gguf", "c0ffee/a.gguf", library.Yes},
		{"a_ref_that_leads_out", []func(cache){file("a.gguf", "x"), func(c cache) { c.write(repo+"/refs/main", "../../other") }}, "hf:acme/tiny/a.gguf", "", library.No},
		{"a_list_that_leads_out", []func(cache){main, file("a.gguf", "x"), tree(`"../../../secret.gguf":{"size":1}`)}, "hf:acme/tiny", "", library.No},
	} {
		t.Run(c.name, func(t *testing.T) {
			on := cache{t, t.TempDir()}
			for _, f := range c.setup {
				f(on)
			}
			got := library.Find(on.dir, ref(t, c.ref))
			want := ""
			if c.path != "" {
				want = filepath.Join(on.dir, repo, "snapshots", c.path)
			}
			if got.Path != want || got.Whole != c.whole {
				t.Errorf("got %+v, want %s, whole %d", got, want, c.whole)
			}
		})
	}
}

// TestFindOfOtherSources: a file of the web lies in the same layout, with a list.
func TestFindOfOtherSources(t *testing.T) {
	c := cache{t, t.TempDir()}
	r := ref(t, "https://files.example/a.gguf")
	if got := library.Find(c.dir, r); got.Path != "" {
		t.Errorf("nothing is there: %+v", got)
	}
	dir := r.Directory()
	c.file(dir, "a.gguf", "abc", "GGUF")
	c.write(dir+"/refs/main", "c0ffee")
	c.write(dir+"/trees/c0ffee.json", `{"format_version":1,"files":{"a.gguf":{"size":4,"blob_id":"abc"}}}`)
	got := library.Find(c.dir, r)
	if want := filepath.Join(c.dir, dir, "snapshots", "c0ffee", "a.gguf"); got.Path != want ||
		got.Whole != library.Yes {
		t.Errorf("got %+v, want %s", got, want)
	}
}
