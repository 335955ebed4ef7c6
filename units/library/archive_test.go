package library_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/library"
)

// gitOf is the name that git gives a text.
func gitOf(text string) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(text), text))
	return hex.EncodeToString(sum[:])
}

const weights = "GGUF and more"

// filled is a cache with a model of a hub: two quantisations and a small file that has git's name.
func filled(t *testing.T) cache {
	c := cache{t, t.TempDir()}
	c.file(repo, "tiny-Q8_0.gguf", blobOf(weights), weights)
	c.file(repo, "q4/tiny-Q4_0.gguf", blobOf("q4"), "q4")
	c.file(repo, "config.json", gitOf("{}"), "{}")
	c.write(repo+"/refs/main", "c0ffee")
	c.write(repo+"/trees/c0ffee.json", fmt.Sprintf(`{"format_version":1,"files":{"tiny-Q8_0.gguf":{"size":%d},`+
		`"q4/tiny-Q4_0.gguf":{"size":2},"config.json":{"size":2}}}`, len(weights)))
	return c
}

func export(t *testing.T, c cache, model string) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := library.Export(t.Context(), c.dir, ref(t, model), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestArchive: what is exported is found whole on another host, with the same content, and nothing
// else is there.
func TestArchive(t *testing.T) {
	from := filled(t)
	oci := strings.Repeat("ab", 32)
	web := ref(t, "https://files.example/a.gguf").Directory()
	reg := ref(t, "oci:r.example/m:v1").Directory()
	for dir, refs := range map[string]string{web: "main", reg: "v1"} {
		commit := oci[:40]
		from.write(dir+"/blobs/"+blobOf("web"), "web")
		from.write(dir+"/snapshots/"+commit+"/a.gguf", "web") // a copy and no link
		from.write(dir+"/trees/"+commit+".json", `{"files":{"a.gguf":{"size":3}}}`)
		from.write(dir+"/refs/"+refs, commit)
	}
	for model, files := range map[string]int{"hf:acme/tiny:Q8_0": 1, "hf:acme/tiny/q4/tiny-Q4_0.gguf": 1, "hf:acme/tiny": 3,
		"hf:acme/tiny@c0ffee": 3, "https://files.example/a.gguf": 1, "oci:r.example/m:v1": 1, "oci:r.example/m@sha256:" + oci: 1} {
		t.Run(strings.NewReplacer("/", "_", ":", "_", "@", "_").Replace(model), func(t *testing.T) {
			archive := export(t, from, model)
			to := t.TempDir()
			for range 2 { // the second time, all is there
				got, err := library.Import(t.Context(), to, bytes.NewReader(archive))
				if err != nil || got.Files != files {
					t.Fatalf("%+v, %v", got, err)
				}
			}
			found, was := library.Find(to, ref(t, model)), library.Find(from.dir, ref(t, model))
			if found.Whole != library.Yes ||
				strings.TrimPrefix(found.Path, to) != strings.TrimPrefix(was.Path, from.dir) {
				t.Errorf("found %+v, it was %+v", found, was)
			}
			n := 0
			own := filepath.Join(to, ref(t, model).Directory())
			err := filepath.WalkDir(own, func(p string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() && e.Type().IsRegular() && strings.Contains(p, "/blobs/") {
					n++
				}
				if strings.Contains(p, ".import") || strings.Contains(p, ".lock") {
					t.Errorf("%s is left", p)
				}
				return err
			})
			if err != nil || n != files {
				t.Errorf("%d blobs (%v)", n, err)
			}
			if err := library.Verify(t.Context(), to, ref(t, model).Directory(), func(c library.Checked) {
				if c.Wrong || !c.Known {
					t.Errorf("%+v", c)
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExportRefuses: what is not whole, or damaged, makes no archive.
func TestExportRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		break_ func(c cache)
		says   string
	}{
		"not_there": {func(c cache) { _ = os.RemoveAll(filepath.Join(c.dir, repo)) }, "not in the cache"},
		"damaged":   {func(c cache) { c.write(repo+"/blobs/"+blobOf(weights), strings.ToLower(weights)) }, "not what its digest says"},
		"leads_out": {func(c cache) {
			link := filepath.Join(c.dir, repo, "snapshots/c0ffee/tiny-Q8_0.gguf")
			c.write("other/secret", weights)
			_ = os.Remove(link)
			_ = os.Symlink("../../../other/secret", link)
		}, "leads out"},
	} {
		t.Run(name, func(t *testing.T) {
			from := filled(t)
			c.break_(from)
			var out bytes.Buffer
			_, err := library.Export(t.Context(), from.dir, ref(t, "hf:acme/tiny:Q8_0"), &out)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("err %v", err)
			}
		})
	}
}

// member is one of an archive that a hostile person makes.
type member struct {
	tar.Header
	text string
}

func pack(t *testing.T, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if m.Typeflag == 0 {
			m.Typeflag, m.Size = tar.TypeReg, int64(len(m.text))
		}
		m.Mode = 0o4777
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func named(name, text string) member { return member{tar.Header{Name: name}, text} }

// TestHostileArchive: nothing of an archive that lies gets a name in the cache, and nothing at all
// is written outside of the model's own directory.
func TestHostileArchive(t *testing.T) {
	type object = map[string]any
	x := func(change func(index, file object)) member {
		file := object{"path": "a.gguf", "blob": blobOf(weights), "size": len(weights), "sha256": blobOf(weights)}
		index := object{"version": 1, "model": "hf:acme/tiny/a.gguf", "commit": "c0ffee", "files": []object{file}}
		if change != nil {
			change(index, file)
		}
		text, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		return named("pool-managerd-model.json", string(text))
	}
	good := named("blobs/"+blobOf(weights), weights)
	for name, c := range map[string]struct {
		members []member
		says    string
	}{
		"nothing":                {nil, "no index"},
		"another_tar":            {[]member{named("etc/passwd", "x")}, "no index"},
		"an_index_that_is_none":  {[]member{named("pool-managerd-model.json", "{")}, "cannot be read"},
		"an_unknown_field":       {[]member{x(func(i, _ object) { i["x"] = 1 })}, "unknown field"},
		"a_later_version":        {[]member{x(func(i, _ object) { i["version"] = 2 })}, "of version 2"},
		"a_model_of_this_host":   {[]member{x(func(i, _ object) { i["model"] = "file:/etc" })}, "file of this host"},
		"a_model_that_is_none":   {[]member{x(func(i, _ object) { i["model"] = "hf:../.." })}, "cannot have"},
		"a_commit_that_climbs":   {[]member{x(func(i, _ object) { i["commit"] = "../../x" })}, "is not the commit"},
		"a_path_that_climbs":     {[]member{x(func(_, f object) { f["path"] = "../../../x" })}, "cannot be a file"},
		"an_absolute_path":       {[]member{x(func(_, f object) { f["path"] = "/etc/cron.d/x" })}, "cannot be a file"},
		"a_blob_that_climbs":     {[]member{x(func(_, f object) { f["blob"] = "../../x" })}, "has no digest"},
		"another_digests_name":   {[]member{x(func(_, f object) { f["blob"] = blobOf("other") })}, "has no digest"},
		"a_negative_size":        {[]member{x(func(_, f object) { f["size"] = -1 })}, "has -1 bytes"},
		"more_than_the_disk":     {[]member{x(func(_, f object) { f["size"] = int64(1) << 43 })}, "are free"},
		"more_than_any_disk":     {[]member{x(func(_, f object) { f["size"] = int64(1) << 60 })}, "bytes"},
		"no_files":               {[]member{x(func(i, _ object) { i["files"] = nil })}, "it has 0 files"},
		"a_list_of_other_files":  {[]member{x(func(i, _ object) { i["tree"] = object{"files": object{"b": object{"size": 1}}} })}, "of other files"},
		"a_list_that_climbs":     {[]member{x(func(i, _ object) { i["tree"] = object{"files": object{"../b": object{"size": 1}}} })}, "its list names"},
		"another_content":        {[]member{x(nil), named(good.Name, strings.ToUpper(weights))}, "not what its digest says"},
		"another_content_of_git": {[]member{x(func(_, f object) { f["blob"] = gitOf("x") }), named("blobs/"+gitOf("x"), weights)}, "not what its digest says"},
		"a_longer_content":       {[]member{x(nil), named(good.Name, weights+weights)}, "no file of its index"},
		"a_further_member":       {[]member{x(nil), good, named("blobs/../../../x", "x")}, "no file of its index"},
		"a_member_twice":         {[]member{x(nil), good, good}, "no file of its index"},
		"a_link":                 {[]member{x(nil), {tar.Header{Name: good.Name, Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}, ""}}, "no file of its index"},
		"a_hard_link":            {[]member{x(nil), {tar.Header{Name: good.Name, Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}, ""}}, "no file of its index"},
		"a_device":               {[]member{x(nil), {tar.Header{Name: good.Name, Typeflag: tar.TypeChar}, ""}}, "no file of its index"},
		"it_ends_early":          {[]member{x(nil)}, "ends without a.gguf"},
	} {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			dir := filepath.Join(above, "cache")
			_, err := library.Import(t.Context(), dir, bytes.NewReader(pack(t, c.members...)))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("err %v", err)
			}
			if found := library.Find(dir, ref(t, "hf:acme/tiny/a.gguf")); found.Path != "" {
				t.Errorf("found %+v", found)
			}
			_ = filepath.WalkDir(above, func(p string, e fs.DirEntry, err error) error {
				if err != nil || !e.IsDir() {
					t.Errorf("%s is left (%v)", p, err)
				}
				return nil
			})
		})
	}
	cut := pack(t, x(nil), good)
	_, err := library.Import(t.Context(), t.TempDir(), bytes.NewReader(cut[:1536+len(weights)/2]))
	if err == nil {
		t.Error("an archive that was cut is read")
	}
}

// TestImportOverWhatIsThere: a download under way is left alone, and so is a branch that means
// another commit; a link that another user made leads nothing out of the model's directory.
func TestImportOverWhatIsThere(t *testing.T) {
	archive := export(t, filled(t), "hf:acme/tiny:Q8_0")
	c := cache{t, t.TempDir()}
	c.write(repo+"/refs/main", "deadbeef")
	if _, err := library.Import(t.Context(), c.dir, bytes.NewReader(archive)); err == nil ||
		!strings.Contains(err.Error(), "another version") {
		t.Errorf("another branch: %v", err)
	}
	c = cache{t, t.TempDir()}
	c.write(repo+"/.pool-fetch.lock", "")
	lock, err := os.Open(filepath.Join(c.dir, repo, ".pool-fetch.lock"))
	if err := errors.Join(err, unix.Flock(int(lock.Fd()), unix.LOCK_EX)); err != nil {
		t.Fatal(err)
	}
	if _, err := library.Import(t.Context(), c.dir, bytes.NewReader(archive)); !errors.Is(err, library.ErrBusy) {
		t.Errorf("while it is downloaded: %v", err)
	}
	lock.Close()
	if _, err := library.Import(t.Context(), c.dir, bytes.NewReader(archive)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	for _, name := range []string{"blobs", "snapshots", "refs", "trees", ""} {
		dir, out := t.TempDir(), t.TempDir()
		link := filepath.Join(dir, repo, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(out, link)); err != nil {
			t.Fatal(err)
		}
		_, err := library.Import(t.Context(), dir, bytes.NewReader(archive))
		if left, e := os.ReadDir(out); err == nil || e != nil || len(left) > 0 {
			t.Errorf("%q is a link: %v, %v is outside (%v)", name, err, left, e)
		}
	}
}

// FuzzImport: whatever an archive holds, each file of it is below the model's directory, and has
// the content that its name says.
func FuzzImport(f *testing.F) {
	sum := blobOf("x")
	for _, commit := range []string{"c0ffee", "..", "a/b"} {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		text := fmt.Sprintf(`{"version":1,"model":"hf:a/b/x","commit":%q,"files":[{"path":"x","blob":%q,"size":1,"sha256":%q}]}`, commit, sum, sum)
		err := w.WriteHeader(&tar.Header{Name: "pool-managerd-model.json", Size: int64(len(text)), Mode: 0o644})
		_, err2 := w.Write([]byte(text))
		err3 := w.WriteHeader(&tar.Header{Name: "blobs/" + sum, Size: 1, Mode: 0o644})
		_, err4 := w.Write([]byte("x"))
		if err := errors.Join(err, err2, err3, err4, w.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	f.Fuzz(mutate.Many(func(t *testing.T, data []byte) {
		above := t.TempDir()
		_, err := library.Import(t.Context(), filepath.Join(above, "cache"), bytes.NewReader(data))
		_ = filepath.WalkDir(above, func(p string, e fs.DirEntry, _ error) error {
			if e.IsDir() {
				return nil
			}
			inside, _ := filepath.Rel(filepath.Join(above, "cache"), p)
			parts := strings.Split(inside, "/")
			if len(parts) < 3 || err != nil && parts[1] != "blobs" && parts[1] != "snapshots" {
				t.Errorf("%s is there (%v)", p, err)
			}
			return nil
		})
	}))
}
