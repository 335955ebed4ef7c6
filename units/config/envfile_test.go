package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEnvFile: the variables of files are held to the rules of those in env, and problems name the
// file with its line; a file that cannot be used yet is no mistake of the pool file.
func TestEnvFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.env", "# ours\nHF_TOKEN='hf_secret'\nLLAMA_ARG_FLASH_ATTN=on\n")
	other := write("other.env", "HF_TOKEN=hf_other\n")
	reserved := write("reserved.env", "A=1\n\nCUDA_VISIBLE_DEVICES=0\n")
	cases := []struct {
		name, keys string
		files      []string // what the pool has then
		token      string   // HF_TOKEN as the engine gets it
		says, hint string   // of the problem; empty: there is none
	}{
		{"one", `env_file = "` + good + `"`, []string{good}, "hf_secret", "", ""},
		{"several", `env_file = ["` + good + `", "` + other + `"]`, []string{good, other}, "hf_other", "", ""},
		{"env_wins", "env_file = \"" + good + "\"\nenv = { HF_TOKEN = \"x\" }", []string{good}, "x", "", ""},
		{"missing", `env_file = "/nowhere/env"`, []string{"/nowhere/env"}, "", "", ""},
		{"a_line_too_many", `env_file = "` + write("bad.env", "export A=hf_secret\n") + `"`,
			[]string{dir + "/bad.env"}, "", "", ""},

		{"reserved", `env_file = ["` + good + `", "` + reserved + `"]`, nil, "",
			"env_file " + reserved + " (line 3) holds CUDA_VISIBLE_DEVICES, which pool-managerd sets itself",
			"Remove it from env_file " + reserved + " (line 3) and set the key devices."},
		{"a_flag", `env_file = "` + write("flag.env", "LLAMA_ARG_REUSE_PORT=1\n") + `"`, nil, "",
			"env_file " + dir + "/flag.env (line 1) holds LLAMA_ARG_REUSE_PORT, which lets two engines", "Remove it from"},
		{"unified_memory", `env_file = "` + write("uvm.env", "GGML_CUDA_ENABLE_UNIFIED_MEMORY=0\n") + `"`, nil, "",
			"(line 1) holds GGML_CUDA_ENABLE_UNIFIED_MEMORY, whose every value", "consent"},
		{"a_second_key", "api_key_file = \"/etc/key\"\nenv_file = \"" + write("key.env", "LLAMA_API_KEY=hf_secret\n") + "\"",
			nil, "", "(line 1) holds LLAMA_API_KEY beside api_key_file", "Remove it"},
		{"a_relative_file", `env_file = "` + write("rel.env", "LLAMA_ARG_MMPROJ=a.gguf\n") + `"`, nil, "",
			`env_file[0] (LLAMA_ARG_MMPROJ) is "a.gguf", a relative path`, "absolute"},
		{"a_relative_path", `env_file = "a.env"`, nil, "", "env_file is \"a.env\", which", ""},
		{"a_pattern", `env_file = ["/etc/llm/*.env"]`, nil, "", "env_file[0] is", ""},
		{"a_number", `env_file = 1`, nil, "", "env_file is the integer 1; want an absolute path, or a list of them", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, problems := ParsePool("a.toml", []byte(least+c.keys+"\n"), DefaultHost())
			if c.says == "" {
				if p == nil || !slices.Equal(p.EnvFiles, c.files) || p.Variables()["HF_TOKEN"] != c.token {
					t.Fatalf("%+v, %v", p, problems)
				}
				return
			}
			if p != nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), c.says) ||
				!strings.Contains(problems[0].Hint, c.hint) || problems[0].Key != "env_file" || problems[0].Line < 3 {
				t.Errorf("%+v, want %q", problems, c.says)
			}
			for _, problem := range problems {
				if strings.Contains(problem.Error()+problem.Hint, "hf_secret") {
					t.Errorf("%v repeats a value", problem)
				}
			}
		})
	}
}
