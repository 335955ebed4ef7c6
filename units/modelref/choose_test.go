package modelref

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestChoose: of the files that a source has, a reference means the same to the program that
// downloads and to the manager that looks into the cache.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name, ref, has string
		files, open    string
		loose          bool
		problem        string // of a *NoChoice
	}{
		{name: "a_file", ref: "hf:a/b/x.gguf", has: "x.gguf y.gguf", files: "x.gguf", open: "x.gguf"},
		{name: "no_file", ref: "hf:a/b/z.gguf", has: "x.gguf", problem: "has no file z.gguf"},
		{name: "all_parts", ref: "hf:a/b/x-00002-of-00002.gguf", has: "x-00001-of-00002.gguf x-00002-of-00002.gguf y",
			files: "x-00001-of-00002.gguf x-00002-of-00002.gguf", open: "x-00001-of-00002.gguf"},
		{name: "a_part_is_missing", ref: "hf:a/b/x-00001-of-00002.gguf", has: "x-00001-of-00002.gguf", problem: "x-00002-of-00002.gguf"},
		{name: "a_part_that_is_none", ref: "hf:a/b/x-00003-of-00002.gguf", has: "x-00003-of-00002.gguf",
			files: "x-00003-of-00002.gguf", open: "x-00003-of-00002.gguf"},
		{name: "a_quantisation", ref: "hf:a/b:q4_k_m", has: "m-Q4_K_M.gguf m-UD-Q4_K_M.gguf mmproj-Q4_K_M.gguf m-Q8_0.gguf",
			files: "m-Q4_K_M.gguf", open: "m-Q4_K_M.gguf"},
		{name: "a_longer_one_where_it_is_the_only", ref: "hf:a/b:Q4_K_M", has: "m-UD-Q4_K_M.gguf m-Q8_0.gguf",
			files: "m-UD-Q4_K_M.gguf", open: "m-UD-Q4_K_M.gguf", loose: true},
		{name: "the_longer_one_by_its_name", ref: "hf:a/b:UD-Q4_K_M", has: "m-Q4_K_M.gguf m-UD-Q4_K_M.gguf",
			files: "m-UD-Q4_K_M.gguf", open: "m-UD-Q4_K_M.gguf"},
		{name: "a_quantisation_in_parts", ref: "hf:a/b:Q8_0", has: "m-Q8_0-00001-of-00002.gguf m-Q8_0-00002-of-00002.gguf m-F16.gguf",
			files: "m-Q8_0-00001-of-00002.gguf m-Q8_0-00002-of-00002.gguf", open: "m-Q8_0-00001-of-00002.gguf"},
		{name: "a_quantisation_by_its_folder", ref: "hf:a/b:Q8_0", has: "Q8_0/m.gguf Q4_0/m.gguf", files: "Q8_0/m.gguf", open: "Q8_0/m.gguf"},
		{name: "a_beginning_is_not_it", ref: "hf:a/b:Q4_K", has: "m-Q4_K_M.gguf", problem: "of the quantisation Q4_K"},
		{name: "a_list_of_importances_is_not_it", ref: "hf:a/b:Q4_K", has: "imatrix-Q4_K.gguf", problem: "of the quantisation Q4_K"},
		{name: "several_of_it", ref: "hf:a/b:Q8_0", has: "x-Q8_0.gguf y-Q8_0.gguf", problem: "several models of the quantisation Q8_0: x-Q8_0, y-Q8_0"},
		{name: "a_repository", ref: "hf:a/b", has: "w.safetensors config.json", files: "config.json w.safetensors"},
		{name: "a_repository_of_one_file", ref: "hf:a/b", has: "m.gguf", files: "m.gguf"},
		{name: "nothing", ref: "hf:a/b", problem: "hf:a/b has no files"},
		{name: "a_web_server", ref: "https://h/x.gguf", has: "x.gguf", files: "x.gguf", open: "x.gguf"},
		{name: "an_object", ref: "s3://abc/m/x.gguf", has: "x.gguf", files: "x.gguf", open: "x.gguf"},
		{name: "a_folder_of_objects", ref: "s3://abc/m/", has: "x.gguf", files: "x.gguf"},
		{name: "an_artefact_of_one_model", ref: "oci:h.test/m", has: "model.gguf mmproj.gguf lora.gguf LICENSE",
			files: "LICENSE lora.gguf mmproj.gguf model.gguf", open: "model.gguf"},
		{name: "an_artefact_of_a_folder", ref: "oci:h.test/m", has: "config.json w.safetensors", files: "config.json w.safetensors"},
		{name: "an_artefact_of_two_models", ref: "oci:h.test/m", has: "a.gguf b.gguf", files: "a.gguf b.gguf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse(c.ref)
			if err != nil {
				t.Fatal(err)
			}
			paths := strings.Fields(c.has)
			for range len(paths) + 1 { // in any order
				got, err := r.Choose(paths)
				var no *NoChoice
				if c.problem != "" {
					if !errors.As(err, &no) || !strings.Contains(no.Problem, c.problem) || no.Hint == "" {
						t.Errorf("Choose(%q) = %+v, %v", paths, got, err)
					}
				} else if err != nil || strings.Join(got.Files, " ") != c.files || got.Open != c.open ||
					got.Loose != c.loose {
					t.Errorf("Choose(%q) = %+v, %v", paths, got, err)
				}
				if len(paths) > 1 {
					paths = slices.Concat(paths[1:], paths[:1])
				}
			}
		})
	}
}

func TestBranch(t *testing.T) {
	for text, want := range map[string][2]string{
		"hf:a/b":                       {"main", ""},
		"hf:a/b@v1":                    {"v1", ""},
		"s3://abc/x":                   {"main", ""},
		"oci:r.example/m":              {"latest", ""},
		"oci:r.example/m:v1":           {"v1", ""},
		"oci:r.example/m@" + digest:    {"latest", digest[len("sha256:"):][:40]},
		"oci:r.example/m:v1@" + digest: {"v1", digest[len("sha256:"):][:40]},
	} {
		r, err := Parse(text)
		if err != nil || r.Branch() != want[0] || r.Commit() != want[1] {
			t.Errorf("%s: branch %q, commit %q (%v), want %q", text, r.Branch(), r.Commit(), err, want)
		}
	}
}
