package library_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestFindOfOtherSources: what was downloaded of a store or a registry is found offline: by its
// tag, or by the digest of its manifest; and an engine opens the same as after the download.
func TestFindOfOtherSources(t *testing.T) {
	sum := sha256.Sum256(nil)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	commit := hex.EncodeToString(sum[:])[:40]
	for _, c := range []struct{ name, ref, branch, commit, files, path string }{
		{"an_object", "s3://models/a/x.gguf", "main", "c0", "x.gguf", "/x.gguf"},
		{"a_folder_of_objects", "s3://models/a/", "main", "c0", "x.gguf", ""},
		{"a_tag", "oci:r.example/m:v1", "v1", "c0", "model.gguf LICENSE", "/model.gguf"},
		{"no_tag", "oci:r.example/m", "latest", "c0", "config.json w.safetensors", ""},
		{"a_digest", "oci:r.example/m@" + digest, "", commit, "model.gguf", "/model.gguf"},
		{"a_file_of_a_web_server", "https://h.example/x.gguf", "main", "c0", "x.gguf", "/x.gguf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			on, r := cache{t, t.TempDir()}, ref(t, c.ref)
			dir := r.Directory()
			var list []string
			for _, f := range strings.Fields(c.files) {
				on.write(dir+"/blobs/"+f+"-blob", "x")
				on.write(dir+"/snapshots/"+c.commit+"/"+f, "x")
				list = append(list, fmt.Sprintf(`"%s":{"size":1}`, f))
			}
			on.write(dir+"/trees/"+c.commit+".json", `{"files":{`+strings.Join(list, ",")+`}}`)
			if c.branch != "" {
				on.write(dir+"/refs/"+c.branch, c.commit)
			}
			want := filepath.Join(on.dir, dir, "snapshots", c.commit) + c.path
			if got := library.Find(on.dir, r); got.Path != want || got.Whole != library.Yes {
				t.Errorf("got %+v, want %s", got, want)
			}
		})
	}
}

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
	// A reader of a pipe that no one writes to waits without end.
	pipe := func(name string) func(c cache) {
		return func(c cache) {
			path := filepath.Join(c.dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), unix.Mkfifo(path, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
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
		{"pipes_in_the_place_of_lists", []func(cache){file("a.gguf", "x"), pipe(repo + "/refs/main"), pipe(repo + "/trees/c0ffee.json")},
			"hf:acme/tiny/a.gguf", "", library.No},
		{"a_pipe_in_the_place_of_the_files_list", []func(cache){main, file("a.gguf", "x"), pipe(repo + "/trees/c0ffee.json")},
			"hf:acme/tiny/a.gguf", "c0ffee/a.gguf", library.Yes},
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

// blobOf is the name that a file of a repository has by its content.
func blobOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestList: each model is listed with its size, what is not whole apart, and with its last use.
func TestList(t *testing.T) {
	c := cache{t, t.TempDir()}
	uses := t.TempDir()
	if all, err := library.List(filepath.Join(c.dir, "none"), uses); err != nil || len(all) != 0 {
		t.Errorf("no cache: %v, %v", all, err)
	}
	c.write(repo+"/blobs/"+blobOf("GGUF"), "GGUF")
	c.write(repo+"/blobs/"+blobOf("x")+".706f6f6c.incomplete", "half")
	c.write("https--files.example--a.gguf--0011/blobs/abc", "12345678")
	c.write("https--files.example--a.gguf--0011/blobs/def", "12345678")
	c.write(".locks/x", "of another program")
	if err := os.MkdirAll(filepath.Join(c.dir, "models--acme--failed", "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.write("version.txt", "1")
	if err := os.Symlink("/etc", filepath.Join(c.dir, "models--evil--link")); err != nil {
		t.Fatal(err)
	}
	library.Used(uses, repo)
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(uses, repo), later, later); err != nil {
		t.Fatal(err)
	}
	all, err := library.List(c.dir, uses)
	if err != nil || len(all) != 2 {
		t.Fatalf("got %+v, %v", all, err)
	}
	tiny, web := all[0], all[1]
	if tiny.Name != "hf:acme/tiny" || tiny.Bytes != 4 || tiny.Files != 1 || tiny.Partial == 0 ||
		!tiny.Used.Equal(later) || tiny.Digest != "sha256:"+blobOf("GGUF") {
		t.Errorf("got %+v", tiny)
	}
	if web.Bytes != 16 || web.Files != 2 || web.Digest != "" || web.Used.IsZero() {
		t.Errorf("got %+v", web)
	}
}

// TestVerifyAndRemove: a file that is not what its name says is found; what is being downloaded is
// not removed, and a link leads a removal nowhere.
func TestVerifyAndRemove(t *testing.T) {
	c := cache{t, t.TempDir()}
	c.write(repo+"/blobs/"+blobOf("GGUF"), "GGUF")
	c.write(repo+"/blobs/"+blobOf("other"), "broken")
	c.write(repo+"/blobs/b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", "hello") // git hash-object
	c.write(repo+"/blobs/etag", "x")
	got := make(map[string]library.Checked)
	if err := library.Verify(t.Context(), c.dir, repo, func(c library.Checked) { got[c.File] = c }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]bool{ // known, wrong
		blobOf("GGUF"): {true, false}, blobOf("other"): {true, true}, "etag": {false, false},
		"b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0": {true, false},
	} {
		if is := got[name]; is.Known != want[0] || is.Wrong != want[1] {
			t.Errorf("%s: %+v, want known and wrong %v", name, is, want)
		}
	}
	c.write(repo+"/.pool-fetch.lock", "")
	lock, err := os.Open(filepath.Join(c.dir, repo, ".pool-fetch.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := library.Remove(c.dir, repo); !errors.Is(err, library.ErrBusy) {
		t.Errorf("while it is downloaded: %v", err)
	}
	lock.Close()
	kept := filepath.Join(t.TempDir(), "kept")
	out := filepath.Join(c.dir, repo, "out")
	if err := errors.Join(os.WriteFile(kept, nil, 0o644), os.Symlink(filepath.Dir(kept), out)); err != nil {
		t.Fatal(err)
	}
	if err := library.Remove(c.dir, repo); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(c.dir, repo)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("a link led the removal out: %v", err)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b"} {
		if err := library.Remove(c.dir, name); err == nil {
			t.Errorf("%q was removed", name)
		}
	}
}

// BenchmarkList lists a cache of 1000 models of three files each.
func BenchmarkList(b *testing.B) {
	c := cache{b, b.TempDir()}
	for i := range 1000 {
		for j := range 3 {
			c.write(fmt.Sprintf("models--acme--m%d/blobs/%s", i, blobOf(fmt.Sprint(i, j))), "x")
		}
	}
	uses := b.TempDir()
	for b.Loop() {
		if all, err := library.List(c.dir, uses); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
}

// TestModelsOfOtherPrograms: what a program of the host's own names in refs/main is its model, and
// is listed; before that there is nothing.
func TestModelsOfOtherPrograms(t *testing.T) {
	c := cache{t, t.TempDir()}
	nas := ref(t, "nas:acme/tiny")
	dir := nas.Directory()
	c.write(dir+"/snapshots/1/tiny.gguf", "GGUF")
	c.write(dir+"/snapshots/1/LICENSE", "free")
	if found := library.Find(c.dir, nas); found != (library.Found{}) {
		t.Errorf("before refs/main: %+v", found)
	}
	if all, err := library.List(c.dir, ""); err != nil || len(all) != 0 {
		t.Errorf("before refs/main: %+v (%v)", all, err)
	}
	c.write(dir+"/refs/main", "1\n")
	want := library.Found{Path: filepath.Join(c.dir, dir, "snapshots/1/tiny.gguf"), Commit: "1", Whole: library.Yes}
	if found := library.Find(c.dir, nas); found != want {
		t.Errorf("%+v, want %+v", found, want)
	}
	all, err := library.List(c.dir, "")
	if err != nil || len(all) != 1 || all[0].Directory != dir || all[0].Bytes != 8 || all[0].Files != 2 ||
		all[0].Used.IsZero() {
		t.Errorf("%+v (%v)", all, err)
	}
	var checked []string
	if err := library.Verify(t.Context(), c.dir, dir, func(c library.Checked) {
		checked = append(checked, fmt.Sprintf("%s %t %t", c.File, c.Known, c.Wrong))
	}); err != nil || fmt.Sprint(checked) != "[snapshots/1/LICENSE false false snapshots/1/tiny.gguf false false]" {
		t.Errorf("%v (%v)", checked, err)
	}
	c.write(dir+"/snapshots/2/config.json", "{}")
	c.write(dir+"/snapshots/2/model.safetensors", "weights")
	c.write(dir+"/refs/main", "2")
	want = library.Found{Path: filepath.Join(c.dir, dir, "snapshots/2"), Commit: "2", Whole: library.Yes}
	if found := library.Find(c.dir, nas); found != want {
		t.Errorf("%+v, want %+v", found, want)
	}
	for _, commit := range []string{"../../etc", "3", ""} {
		c.write(dir+"/refs/main", commit)
		if found := library.Find(c.dir, nas); found.Path != "" {
			t.Errorf("refs/main has %q: %+v", commit, found)
		}
	}
}
