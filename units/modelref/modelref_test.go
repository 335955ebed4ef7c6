package modelref

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for text, want := range map[string]Ref{
		"hf:Qwen/Qwen3-8B":                    {Scheme: HF, Repo: "Qwen/Qwen3-8B"},
		"hf:Qwen/Qwen3-8B@main":               {Scheme: HF, Repo: "Qwen/Qwen3-8B", Revision: "main"},
		"hf:Qwen/Qwen3-8B@refs%2Fpr%2F7":      {Scheme: HF, Repo: "Qwen/Qwen3-8B", Revision: "refs/pr/7"},
		"hf:Qwen/Qwen3-8B:Q4_K_M":             {Scheme: HF, Repo: "Qwen/Qwen3-8B", Quant: "Q4_K_M"},
		"hf:Qwen/Qwen3-8B@v1.0:UD-Q4_K_XL":    {Scheme: HF, Repo: "Qwen/Qwen3-8B", Revision: "v1.0", Quant: "UD-Q4_K_XL"},
		"hf:o/r/f.gguf":                       {Scheme: HF, Repo: "o/r", Path: "f.gguf"},
		"hf:o/r@v1/dir/f-00001-of-00002.gguf": {Scheme: HF, Repo: "o/r", Revision: "v1", Path: "dir/f-00001-of-00002.gguf"},
		"hf:o/r/f@x.gguf":                     {Scheme: HF, Repo: "o/r", Path: "f@x.gguf"},
		"https://Example.com/a/b.gguf":        {Scheme: HTTPS, Host: "example.com", Path: "/a/b.gguf"},
		"https://[::1]:8443/b.gguf?x=1":       {Scheme: HTTPS, Host: "[::1]:8443", Path: "/b.gguf?x=1"},
		"s3://models/llama/8b.gguf":           {Scheme: S3, Repo: "models", Path: "llama/8b.gguf"},
		"s3://models/llama/8b/":               {Scheme: S3, Repo: "models", Path: "llama/8b/"},
		"oci:docker.io/ai/smollm2:latest":     {Scheme: OCI, Host: "docker.io", Repo: "ai/smollm2", Revision: "latest"},
		"oci:localhost:5000/m":                {Scheme: OCI, Host: "localhost:5000", Repo: "m"},
		"oci:r.example/m:v1@" + digest:        {Scheme: OCI, Host: "r.example", Repo: "m", Revision: "v1", Digest: digest},
		"file:/srv/models/a b.gguf":           {Scheme: File, Path: "/srv/models/a b.gguf"},
		"nas:acme/tiny":                       {Scheme: "nas", Path: "acme/tiny"},
		"team-store://x@v1:2?y=%20":           {Scheme: "team-store", Path: "//x@v1:2?y=%20"},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q):\n%s", text, diff)
		}
		if !strings.EqualFold(got.String(), text) {
			t.Errorf("Parse(%q).String() = %q", text, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, problem := range map[string]string{
		"":                                  "has no scheme",
		"/srv/model.gguf":                   "has no scheme",
		"ftp://a/b":                         "unknown scheme",
		"http://a/b.gguf":                   "not encrypted",
		"hf:gpt2":                           "names no repository",
		"hf:../x":                           "cannot have",
		"hf:a/..":                           "cannot have",
		"hf:a/b--c":                         "cannot have",
		"hf:a/b.":                           "cannot have",
		"hf:a/b@":                           "git forbids",
		"hf:a/b@../../etc":                  "git forbids",
		"hf:a/b@%2E%2E":                     "git forbids",
		"hf:a/b@x%zz":                       "git forbids",
		"hf:a/b/../../etc/passwd":           "names no file",
		"hf:a/b//etc/passwd":                "names no file",
		"hf:a/b/":                           "names no file",
		"hf:a/b/x.gguf:Q4":                  "names no file",
		"hf:a/b:":                           "no quantisation",
		"hf:a/b:Q4/..":                      "no quantisation",
		"hf:a/b\n":                          "control character",
		"https:example.com/x":               "is no URL",
		"https:///x":                        "is no URL",
		"https://a:99999/x":                 "is no URL",
		"https://a;b/x":                     "is no URL",
		"https://u:p@a/x":                   "a user or a password",
		"https://a/x#y":                     `contains a "#"`,
		"https://a/x y":                     "contains a space",
		"https://a":                         "names no file",
		"https://a/":                        "names no file",
		"https://a/b/..":                    "names no file",
		"s3:bucket/key":                     "names no bucket",
		"s3://B/key":                        "cannot exist",
		"s3://bucket":                       "names no object",
		"s3://bucket/a/../b":                "names no object",
		"oci:smollm2":                       "names no registry",
		"oci:ai/smollm2":                    "names no registry",
		"oci:r.example/UPPER":               "no registry can have",
		"oci:r.example/a:b:c":               "no registry can have",
		"oci:r.example/a@sha256:12":         "64 hexadecimal digits",
		"file:model.gguf":                   "no absolute path",
		"nas:":                              "names nothing after nas:",
		"nas:a b":                           "has a space",
		"nas:a'b":                           "a quote",
		"nas:a\"b":                          "a quote",
		"nas:a\\b":                          "a backslash",
		"n:a":                               "unknown scheme",
		"NAS:a":                             "unknown scheme",
		"nas--x:a":                          "unknown scheme",
		"models:a":                          "unknown scheme",
		"hf:a/" + strings.Repeat("b", 3000): "too long",
	} {
		r, err := Parse(text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), problem) || e.Hint == "" {
			t.Errorf("Parse(%q) = %+v, %v, want an error with %q and a hint", text, r, err, problem)
		}
		if len(err.Error()) > 400 || strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("Parse(%q): the message is too long or has two lines: %q", text, err)
		}
	}
}

func TestDirectory(t *testing.T) {
	for text, want := range map[string]string{
		"hf:Qwen/Qwen3-8B@v1/x.gguf":      "models--Qwen--Qwen3-8B",
		"https://example.com:8443/x.gguf": "https--example.com_8443--x.gguf--115ae6e670cd",
		"s3://models/llama/8b/":           "s3--models--8b--3ea1f57e536b",
		"oci:docker.io/ai/smollm2:latest": "oci--docker.io--ai--smollm2--e5b852fa57cc",
		"file:/srv/x.gguf":                "",
		"nas:acme/tiny":                   "nas--acme--tiny--6febe26d3dc7",
		"nas:../..":                       "nas--..--..--d8a5d6fad07f",
	} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Directory(); got != want {
			t.Errorf("%s: Directory = %q, want %q", text, got, want)
		}
	}
	same := func(a, b string) bool {
		x, errX := Parse(a)
		y, errY := Parse(b)
		if errX != nil || errY != nil {
			t.Fatal(errX, errY)
		}
		return x.Directory() == y.Directory()
	}
	if !same("oci:r.example/m:v1", "oci:r.example/m:v2") || !same("hf:a/b:Q4", "hf:a/b@dev") {
		t.Error("two revisions of a repository have two directories")
	}
	if same("https://a/x.gguf?v=1", "https://a/x.gguf?v=2") || same("oci:r.example/a/b", "oci:r.example/a--b") {
		t.Error("two artefacts have one directory")
	}
}

func TestHosts(t *testing.T) {
	const hub = "https://hub.example:8443/hf"
	for text, want := range map[string][]string{
		"hf:a/b":                 {"hub.example"},
		"s3://bucket/key":        {"hub.example"},
		"https://a.example:1/x":  {"a.example"},
		"https://[::1]:1/x":      {"::1"},
		"oci:r.example:5000/m":   {"r.example"},
		"oci:docker.io/ai/gemma": {"index.docker.io", "auth.docker.io"},
		"file:/x":                nil,
	} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Hosts(hub); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: Hosts = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, endpoint := range []string{"", "huggingface.co", "ftp://x", "%"} {
		if hosts, err := (Ref{Scheme: HF, Repo: "a/b"}).Hosts(endpoint); err == nil {
			t.Errorf("endpoint %q: hosts %q", endpoint, hosts)
		}
	}
}

func TestPinned(t *testing.T) {
	for text, want := range map[string]bool{
		"hf:a/b@0123456789abcdef0123456789abcdef01234567": true,
		"hf:a/b@0123456":               false,
		"hf:a/b":                       false,
		"oci:r.example/m:v1@" + digest: true,
		"oci:r.example/m:v1":           false,
	} {
		r, err := Parse(text)
		if err != nil || r.Pinned() != want || !r.Remote() {
			t.Errorf("%s: pinned %v, remote %v (%v)", text, r.Pinned(), r.Remote(), err)
		}
	}
}

// FuzzParse: what is read is printed so that it is read the same, and its directory is one element
// of a path.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"hf:a/b@refs%2Fpr%2F1/x/y.gguf", "hf:a/b@%25:Q4_0", "https://a.b:1/%2e%2e/x?y=%00", "s3://abc/d/e/",
		"oci:localhost:5000/a/b:c@" + digest, "file:/a", "store:a/b", "hf:a/b\xff", "https://[::1%25lo]/x"} {
		f.Add(seed)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			if r != (Ref{}) || !utf8.ValidString(err.Error()) {
				t.Errorf("Parse(%q) = %+v and %q", text, r, err)
			}
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Errorf("Parse(%q) = %+v, printed %q, and read again %+v (%v)", text, r, r, again, err)
		}
		dir := r.Directory()
		if r.Scheme != File && (dir != filepath.Base(dir) || dir == ".." || dir == "." || len(dir) > 255) {
			t.Errorf("%q has the directory %q", text, dir)
		}
		hosts, err := r.Hosts("https://h.example")
		if err != nil || r.Remote() && !r.Own() && len(hosts) == 0 || slices.Contains(hosts, "") {
			t.Errorf("%q has the hosts %q (%v)", text, hosts, err)
		}
	}))
}
