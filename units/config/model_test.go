package config

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

func TestModelReference(t *testing.T) {
	sum := "sha256:" + strings.Repeat("0a", 32)
	cases := []struct{ name, ref, digest, want, wrong, root string }{
		{"a_file", "file:/srv/a.gguf", "", "file:/srv/a.gguf", "", ""},
		{"a_file_and_its_digest", "file:///srv/./a.gguf", sum, "file:/srv/a.gguf", "", ""},
		{"none", "", "", "", "", ""},
		{"a_bare_path", "/srv/a.gguf", "", "", "new_model_ref is \"/srv/a.gguf\"", ""},
		{"a_relative_path", "file:a.gguf", "", "", "new_model_ref is \"file:a.gguf\", which", ""},
		{"below_model_root", "file:./llama/a.gguf", "", "file:/srv/models/llama/a.gguf", "", "/srv/models"},
		{"absolute_beside_model_root", "file:/opt/a.gguf", "", "file:/opt/a.gguf", "", "/srv/models"},
		{"out_of_model_root", "file:../a.gguf", "", "", "leads out of model_root", "/srv/models"},
		{"model_root_itself", "file:.", "", "file:/srv/models", "", "/srv/models"},
		{"no_path", "file:", "", "", "is not an absolute path", "/srv/models"},
		{"no_scheme", "llama", "", "", "does not begin with a scheme", ""},
		{"an_object", "s3://bucket/model.gguf", "", "s3://bucket/model.gguf", "", ""},
		{"an_artefact", "oci:Registry.example/ai/model:v1", "", "oci:registry.example/ai/model:v1", "", ""},
		{"no_bucket", "s3:model", "", "", "names no bucket", ""},
		{"no_registry", "oci:model", "", "", "names no registry", ""},
		{"a_repository", "hf:org/model", "", "hf:org/model", "", ""},
		{"a_quantisation", "hf:org/model@v1:Q4_K_M", "", "hf:org/model@v1:Q4_K_M", "", ""},
		{"a_file_of_another_host", "https://Files.example/a.gguf", "", "https://files.example/a.gguf", "", ""},
		{"a_way_out_of_a_repository", "hf:org/../x", "", "", "cannot have", ""},
		{"a_password", "https://u:p@files.example/a.gguf", "", "", "a user or a password", ""},
		{"a_control_character", "file:/srv/a\n.gguf", "", "", "control character", ""},
		{"a_short_digest", "file:/srv/a.gguf", "sha256:00", "", "model_digest has 2 digits", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Reference(c.ref, c.digest, Provisioning{ModelRoot: c.root})
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
