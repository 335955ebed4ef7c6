package config

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

func TestModelReference(t *testing.T) {
	sum := "sha256:" + strings.Repeat("0a", 32)
	cases := []struct{ name, ref, digest, want, wrong string }{
		{"a_file", "file:/srv/a.gguf", "", "file:/srv/a.gguf", ""},
		{"a_file_and_its_digest", "file:///srv/./a.gguf", sum, "file:/srv/a.gguf", ""},
		{"none", "", "", "", ""},
		{"a_bare_path", "/srv/a.gguf", "", "", "new_model_ref is \"/srv/a.gguf\""},
		{"a_relative_path", "file:a.gguf", "", "", "new_model_ref is \"file:a.gguf\", which"},
		{"no_scheme", "llama", "", "", "does not begin with a scheme"},
		{"a_scheme_of_later", "s3://bucket/model", "", "", "not available in this version"},
		{"a_repository", "hf:org/model", "", "hf:org/model", ""},
		{"a_quantisation", "hf:org/model@v1:Q4_K_M", "", "hf:org/model@v1:Q4_K_M", ""},
		{"a_file_of_another_host", "https://Files.example/a.gguf", "", "https://files.example/a.gguf", ""},
		{"a_way_out_of_a_repository", "hf:org/../x", "", "", "cannot have"},
		{"a_password", "https://u:p@files.example/a.gguf", "", "", "a user or a password"},
		{"a_control_character", "file:/srv/a\n.gguf", "", "", "control character"},
		{"a_short_digest", "file:/srv/a.gguf", "sha256:00", "", "model_digest has 2 digits"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Reference(c.ref, c.digest)
			if c.wrong == "" {
				if err != nil || string(got) != c.want {
					t.Errorf("Reference = %q, %v; want %q", got, err, c.want)
				}
				return
			}
			f := registry.AsFailure(err, "", "")
			if f == nil || f.Code != registry.CodeInvalidParams || !strings.Contains(f.Message, c.wrong) ||
				f.Hint == "" {
				t.Errorf("err = %+v, want %q and a hint", f, c.wrong)
			}
		})
	}
}
