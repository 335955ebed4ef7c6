package hostconfig

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/test/reference"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

var update = flag.Bool("update", false, "write golden files and reference pages")

// TestConfigFiles reads each case: a config.toml, dashes, and the problems with their hints, or
// else what differs from the defaults.
func TestConfigFiles(t *testing.T) {
	golden.Cases(t, filepath.Join("testdata", "*.txt"), 9, *update, func(t *testing.T, input string) string {
		s, problems := parse("config.toml", []byte(input))
		got := printed(s, problems)
		if strings.Contains(got, "secret@") {
			t.Error("a message repeats a password")
		}
		return got
	})
}

func printed(s Settings, problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p.Error())
		if p.Hint != "" {
			fmt.Fprintln(&b, "    "+p.Hint)
		}
	}
	if len(problems) > 0 {
		return b.String()
	}
	have, base := map[string]string{}, map[string]string{}
	flatten(have, "", reflect.ValueOf(s))
	flatten(base, "", reflect.ValueOf(Default()))
	var lines []string
	for name, value := range have {
		if base[name] != value {
			lines = append(lines, name+": "+value+"\n")
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

func flatten(into map[string]string, name string, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			flatten(into, strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i))
		}
		return
	}
	into[name] = fmt.Sprintf("%#v", v.Interface())
	if text, ok := v.Interface().(fmt.Stringer); ok {
		into[name] = text.String()
	}
}

// write makes config.toml and pools.d in a new folder.
func write(t *testing.T, configFile string, pools map[string]string) (string, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pools.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"config.toml": configFile}
	for name, content := range pools {
		files["pools.d/"+name] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config.toml"), filepath.Join(dir, "pools.d")
}

func TestLoad(t *testing.T) {
	const goodPool = "model = \"file:/srv/a.gguf\"\n"
	t.Run("nothing_there_is_all_defaults_and_two_notes", func(t *testing.T) {
		dir := t.TempDir()
		c := Load(filepath.Join(dir, "config.toml"), filepath.Join(dir, "pools.d"))
		if !c.SettingsGood || len(c.Problems) > 0 || len(c.Pools) > 0 || len(c.Notes) != 2 ||
			!reflect.DeepEqual(c.Settings, Default()) {
			t.Errorf("%+v", c)
		}
	})
	t.Run("defaults_reach_the_pools", func(t *testing.T) {
		c := Load(write(t, "[defaults]\nengine = \"vllm\"\n[defaults.env]\nA = \"1\"\n",
			map[string]string{"a.toml": goodPool}))
		if len(c.Problems) > 0 || len(c.Pools) != 1 || c.Pools[0].Engine != "vllm" || c.Pools[0].Env["A"] != "1" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("problems_of_both_come_at_once", func(t *testing.T) {
		file, pools := write(t, "require_gpu = 1\n",
			map[string]string{"a.toml": goodPool, "b.toml": "engine = \"vllm\"\n" + goodPool, "c.toml": "x = 1\n"})
		c := Load(file, pools)
		var places []string
		for _, p := range c.Problems {
			rel, _ := filepath.Rel(filepath.Dir(file), p.File)
			places = append(places, fmt.Sprintf("%s:%d %s", rel, p.Line, p.Key))
		}
		want := []string{"config.toml:1 require_gpu", "pools.d/a.toml:0 engine", "pools.d/c.toml:0 engine",
			"pools.d/c.toml:0 model", "pools.d/c.toml:1 x"}
		if !slices.Equal(places, want) || c.SettingsGood || len(c.Pools) != 1 ||
			len(Check(file, pools, "/none")) != len(want) {
			t.Errorf("problems %v, want %v; %+v", places, want, c)
		}
	})
	t.Run("pools_that_the_policy_forbids_are_good_and_denied", func(t *testing.T) {
		file, pools := write(t, "[policy]\nallowed_model_sources = [\"file:/srv/b/\"]\n",
			map[string]string{"a.toml": "engine = \"vllm\"\n" + goodPool})
		c := Load(file, pools)
		var places []string
		for _, p := range c.Denied {
			places = append(places, fmt.Sprintf("%d:%d %s %s", p.Line, p.Column, p.Key, p.PoolID))
		}
		if want := []string{"1:10 devices a", "2:9 model a"}; !slices.Equal(places, want) || len(c.Problems) > 0 ||
			len(c.Pools) != 1 {
			t.Errorf("denied %v, want %v; %+v", places, want, c)
		}
		if c := Load(write(t, "[policy]\nallowed_model_sources = 1\n",
			map[string]string{"a.toml": "engine = \"vllm\"\n" + goodPool})); len(c.Denied) > 0 {
			t.Errorf("denied by a policy that could not be read: %+v", c.Denied)
		}
	})
	t.Run("config_file_that_cannot_be_read", func(t *testing.T) {
		dir := t.TempDir()
		c := Load(dir, filepath.Join(dir, "none"))
		if c.SettingsGood || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Message, "directory") {
			t.Errorf("%+v", c)
		}
	})
}

func TestPrint(t *testing.T) {
	problems := []Problem{
		{File: "a.toml", Line: 3, Column: 7, Key: "replicas", PoolID: "a", Message: "replicas is 0", Allowed: "1-64"},
		{File: "b.toml", Message: "the file is empty", Hint: "Remove the <file>."},
	}
	for _, c := range []struct {
		name   string
		report Report
		text   string
		object string
	}{
		{"good", Report{}, "The configuration is good.\n", `{"ok":true,"problems":[],"warnings":[]}`},
		{"good_but", Report{Warnings: problems[1:]}, "b.toml: warning: the file is empty\n    Remove the <file>.\n" +
			"The configuration is good, with one warning.\n",
			`{"ok":true,"problems":[],"warnings":[{"file":"b.toml","message":"the file is empty","hint":"Remove the <file>."}]}`},
		{"one_and_warnings", Report{problems[:1], problems}, "a.toml:3:7: replicas is 0; want 1-64\n" +
			"a.toml:3:7: warning: replicas is 0; want 1-64\nb.toml: warning: the file is empty\n    Remove the <file>.\n" +
			"1 problem, with 2 warnings.\n", ""},
		{"one", Report{Problems: problems[:1]}, "a.toml:3:7: replicas is 0; want 1-64\n1 problem.\n",
			`{"ok":false,"problems":[{"file":"a.toml","line":3,"column":7,"key":"replicas","pool_id":"a","message":"replicas is 0","allowed":"1-64"}],"warnings":[]}`},
		{"two_of_one_file", Report{Problems: []Problem{problems[1], problems[1]}}, "b.toml: the file is empty\n    Remove the <file>.\nb.toml: the file is empty\n    Remove the <file>.\n2 problems in one file.\n", ""},
		{"two", Report{Problems: problems}, "a.toml:3:7: replicas is 0; want 1-64\nb.toml: the file is empty\n    Remove the <file>.\n2 problems in 2 files.\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text, object bytes.Buffer
			if err := Print(&text, c.report); err != nil || text.String() != c.text {
				t.Errorf("got %q, %v; want %q", text.String(), err, c.text)
			}
			if err := PrintJSON(&object, c.report); err != nil || !json.Valid(object.Bytes()) || c.object != "" &&
				object.String() != c.object+"\n" {
				t.Errorf("got %s, %v; want %s", object.String(), err, c.object)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	for word, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "error": slog.LevelError} {
		if got := (Log{Level: word}).Slog(); got != want {
			t.Errorf("%s is %v", word, got)
		}
	}
}

// TestPackagedFile reads the config.toml that the package installs, as it is and with every comment
// that is a setting taken in.
func TestPackagedFile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "packaging", "etc", "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"as_installed": data,
		"uncommented": packagedSetting.ReplaceAll(data, []byte("$1$2"))} {
		t.Run(name, func(t *testing.T) {
			s, problems := parse("config.toml", content)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			s.Auth.TokenFile = "" // an example, not a default
			if !reflect.DeepEqual(s, Default()) {
				t.Errorf("what the file calls defaults is none: %+v", s)
			}
		})
	}
}

// packagedSetting is a setting that the packaged file holds as a comment.
var packagedSetting = regexp.MustCompile(`(?m)^# ([a-z_.]+)( = )`)

// TestPackagedFileTakesAnyKeyAtItsEnd appends each key of the file's own to the config.toml that
// the package installs, as people do with echo and >>: as it is, and after every other setting in
// it was uncommented.
func TestPackagedFileTakesAnyKeyAtItsEnd(t *testing.T) {
	packaged, err := os.ReadFile(filepath.Join("..", "..", "packaging", "etc", "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	every, err := os.ReadFile(filepath.Join("testdata", "good_every_key.txt"))
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string]string{"tls_cert_file": "tls_key_file", "tls_key_file": "tls_cert_file"}
	for _, k := range schema().Keys {
		if strings.Contains(k.Path, ".") {
			continue
		}
		line := regexp.MustCompile(`(?m)^` + k.Path + ` = .*\n`).FindString(string(every))
		if line == "" {
			t.Errorf("good_every_key.txt has no %s", k.Path)
			continue
		}
		others := packagedSetting.ReplaceAllFunc(packaged, func(found []byte) []byte {
			if bytes.Contains(found, []byte(" "+k.Path+" ")) {
				return found
			}
			return found[len("# "):]
		})
		for name, file := range map[string]string{"as_installed": string(packaged),
			"others_uncommented": string(others)} {
			t.Run(k.Path+"/"+name, func(t *testing.T) {
				if other := needs[k.Path]; other != "" {
					file = regexp.MustCompile(`(?m)^`+other+` = .*\n`).FindString(string(every)) + file
				}
				want, _ := parse("config.toml", []byte(line+file))
				got, problems := parse("config.toml", []byte(file+line))
				if len(problems) > 0 || !reflect.DeepEqual(got, want) {
					t.Errorf("problems %v; %+v, want %+v", problems, got, want)
				}
			})
		}
	}
}

const pageHead = `<!-- Written by go test ./cmd/hostconfig -update; do not edit. -->
# config.toml

` + "`/etc/pool-managerd/config.toml`" + ` is the host's own file; where it is missing, every key has its default. After an edit:
` + "`poolctl check && systemctl reload pool-managerd`" +
	`. A file with any error changes nothing: the former configuration stays in force.

    require_gpu = true
    auth_token_file = "/etc/pool-managerd/token"

    [defaults.limits]
    memory_max = "32G"

    [policy]
    allowed_model_sources = ["file:/srv/models/"]

Durations and sizes are written as in [pool files](pool-file.md).
`

const defaultsSection = "\n## `[defaults]`\n\nWhat each pool file starts from. These keys, as [pool " +
	"files](pool-file.md) have them, and no others:\n\n"

// TestReference holds the page to the schema; -update writes it again.
func TestReference(t *testing.T) {
	var own []strict.Key[Settings]
	var shared []string
	for _, k := range schema().Keys {
		if rest, is := strings.CutPrefix(k.Path, "defaults."); is {
			shared = append(shared, "`"+rest+"`")
		} else {
			own = append(own, k)
		}
	}
	want := pageHead + reference.Page(own) + defaultsSection + strings.Join(shared, ", ") + ".\n"
	golden.File(t, filepath.Join("..", "..", "docs", "reference", "config-file.md"), want, *update)
}

// TestManualPage holds pool-managerd.toml(5) to the schema: each key is in it.
func TestManualPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "man", "pool-managerd.toml.5"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(page))
	for _, k := range schema().Keys {
		if strings.HasPrefix(k.Path, "defaults.") {
			continue // those of pool-file(5)
		}
		for part := range strings.SplitSeq(k.Path, ".") {
			if part != "*" && !slices.Contains(words, part) && !slices.Contains(words, "["+part+"]") {
				t.Errorf("%s is not in the page", k.Path)
			}
		}
	}
}

// TestManualDefaults holds the defaults in pool-managerd.toml(5) to those of the keys.
func TestManualDefaults(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "man", "pool-managerd.toml.5"))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range reference.Differences(string(page), schema().Keys) {
		t.Error(wrong)
	}
}
