package hostconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/units/egress"
)

// TestPrograms: a program that fetches is its path, or a table; what is wrong is said with its
// line.
func TestPrograms(t *testing.T) {
	const half = 30 * time.Minute
	for _, c := range []struct {
		name, text string
		want       map[string]egress.Program
		says       []string
	}{
		{name: "a_path", text: "provisioning.programs.nas = \"/usr/libexec/nas\"",
			want: map[string]egress.Program{"nas": {Path: "/usr/libexec/nas", Silence: half}}},
		{name: "a_table", text: `[provisioning.programs.nas]
path = "/usr/libexec/nas"
hosts = ["nas.example"]
files = ["/mnt/models"]
credentials_file = "/etc/nas"
silence = "90s"
[provisioning.programs.other-one]
path = "/usr/libexec/other"`,
			want: map[string]egress.Program{"nas": {Path: "/usr/libexec/nas", Hosts: []string{"nas.example"},
				Files: []string{"/mnt/models"}, Credentials: "/etc/nas", Silence: 90 * time.Second},
				"other-one": {Path: "/usr/libexec/other", Silence: half}}},
		{name: "a_scheme_of_pool_fetch", text: "provisioning.programs.hf = \"/x\"",
			says: []string{"c.toml:1:23: provisioning.programs.hf is the name of a scheme of pool-fetch"}},
		{name: "no_scheme", text: "provisioning.programs.NAS = \"/x\"", says: []string{"small letters"}},
		{name: "a_relative_path", text: "provisioning.programs.nas = \"nas\"", says: []string{"not an absolute path"}},
		{name: "no_plain_path", text: "provisioning.programs.nas = \"/usr/../tmp/nas\"", says: []string{"not a plain path"}},
		{name: "a_folder_that_it_does_not_see", text: "[provisioning.programs.nas]\npath = \"/x\"\nfiles = [\"/root/models\"]",
			says: []string{"files[0]", "has its own"}},
		{name: "no_path", text: "[provisioning.programs.nas]\nfiles = [\"/mnt\"]",
			says: []string{"c.toml:1:", "provisioning.programs.nas has no path"}},
		{name: "another_key", text: "[provisioning.programs.nas]\npath = \"/x\"\nfile = [\"/mnt\"]",
			says: []string{"c.toml:3:1: no such key: provisioning.programs.nas.file", "Did you mean provisioning.programs.nas.files?"}},
		{name: "a_number", text: "provisioning.programs.nas = 1", says: []string{"is the integer 1", "a table with the key path"}},
		{name: "all_hosts", text: "[provisioning.programs.nas]\npath = \"/x\"\nhosts = [\"*.example\"]",
			says: []string{"hosts[0]", "no single host"}},
		{name: "no_patience", text: "[provisioning.programs.nas]\npath = \"/x\"\nsilence = \"0s\"", says: []string{`silence is "0s"`}},
		{name: "its_models_are_a_source", text: "policy.allowed_model_sources = [\"nas:acme/\"]\nprovisioning.programs.nas = \"/x\"",
			want: map[string]egress.Program{"nas": {Path: "/x", Silence: half}}},
		{name: "a_source_without_it", text: "policy.allowed_model_sources = [\"hf:\", \"nas:acme/\"]",
			says: []string{"c.toml:1:40", "whose scheme is unknown", "programs.nas"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, problems := parse("c.toml", []byte(c.text+"\n"))
			if c.says == nil {
				if diff := cmp.Diff(c.want, s.Host.Provisioning.Programs); diff != "" || len(problems) > 0 {
					t.Errorf("%v %s", problems, diff)
				}
				return
			}
			if len(problems) != 1 {
				t.Fatalf("%d problems: %v", len(problems), problems)
			}
			text := problems[0].Error() + "\n" + problems[0].Hint
			for _, says := range c.says {
				if !strings.Contains(text, says) {
					t.Errorf("no %q in:\n%s", says, text)
				}
			}
		})
	}
}

// TestModelsOfPrograms: pools may name models of a scheme that a program fetches, and of no other;
// poolctl check looks at the program.
func TestModelsOfPrograms(t *testing.T) {
	dir := t.TempDir()
	config, pools, program := filepath.Join(dir, "c.toml"), filepath.Join(dir, "pools.d"), filepath.Join(dir, "nas")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(pools, 0o755); err != nil {
		t.Fatal(err)
	}
	write(program, "#!/bin/sh\n", 0o755)
	const first = "require_gpu = false\npolicy.egress = \"fetch\"\n"
	own := "provisioning.programs.nas = \"" + program + "\"\n"
	const a = "engine = \"llamacpp\"\nmodel = \"nas:acme/tiny\"\nprefetch = [\"nas:acme/next\"]\ndevices = []\n"
	write(filepath.Join(pools, "a.toml"), a, 0o644)
	for _, c := range []struct {
		name, config string
		mode         os.FileMode
		says         []string // each of another problem
	}{
		{"it_is_set", first + own, 0o755, nil},
		{"it_is_not_set", first, 0o755, []string{"a.toml:2:9: model does not begin with a scheme", "a.toml:3:13: prefetch[0]"}},
		{"its_source_is_not_allowed", first + own + "policy.allowed_model_sources = [\"nas:other/\"]\n", 0o755,
			[]string{"a.toml:2:9: the model", "a.toml:3:12: the model"}},
		{"others_can_write_it", first + own, 0o777, []string{"c.toml:3:29: the program " + program}},
		{"the_policy_forbids_it", first + own + "policy.allowed_binaries = [\"/usr/bin/\"]\n", 0o755,
			[]string{"c.toml:3:29: the binary"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(config, c.config, 0o644)
			if err := os.Chmod(program, c.mode); err != nil {
				t.Fatal(err)
			}
			problems := CheckFiles(config, pools, filepath.Join(dir, "none")).Problems
			for _, says := range c.says {
				found := 0
				for _, p := range problems {
					if strings.Contains(p.Error(), says) && p.Hint != "" {
						found++
					}
				}
				if found != 1 {
					t.Errorf("%d problems with %q: %v", found, says, problems)
				}
			}
			if len(c.says) == 0 && len(problems) > 0 {
				t.Errorf("%v", problems)
			}
		})
	}
}
