package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestDeniedPlaces: a check of pool files names the item of a list that the policy refuses.
func TestDeniedPlaces(t *testing.T) {
	for _, c := range []struct {
		name, more, want string // line:column key
	}{
		{"an_argument", "args = [\"-ub\", \"64\",\n  \"--mmproj\", \"/home/x/p.gguf\"]\n", "5:15 args[3]"},
		{"a_file", "files = [\"/srv/models/a.gguf\", \"/x/b.gguf\"]\n", "4:32 files[1]"},
		{"a_variable", "env = { LLAMA_ARG_MMPROJ = \"/x/p.gguf\" }\n", "4:28 env.LLAMA_ARG_MMPROJ"},
		{"on_another_host", "args = [\"-hfd\", \"org/m\"]\n", "4:17 args[1]"},
		{"nothing", "args = [\"--mmproj\", \"/srv/models/p.gguf\"]\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			text := "engine = \"llamacpp\"\nmodel = \"file:/srv/models/m.gguf\"\ndevices = [0]\n" + c.more
			if err := os.WriteFile(filepath.Join(dir, "p.toml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			h := DefaultHost()
			h.Policy.AllowedModelSources = []string{"file:/srv/models/"}
			got := ""
			for _, p := range LoadPools(dir, h).Denied {
				got += fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Key)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
