package pool_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestVariables: what is in the pool file wins over what is in its files of variables, and messages
// name where a variable is from.
func TestVariables(t *testing.T) {
	p := pool.Pool{Env: map[string]string{"A": "env", "B": "env"}}
	if got := fmt.Sprint(p.Variables()); got != "map[A:env B:env]" {
		t.Error(got)
	}
	p.EnvFiles = []string{"/etc/a", "/etc/b"}
	p.FileEnv = map[string]pool.FileVariable{"A": {Value: "file", Line: 1}, "C": {Value: "file", Item: 1, Line: 7}}
	if got := fmt.Sprint(p.Variables(), p.Env); got != "map[A:env B:env C:file] map[A:env B:env]" {
		t.Error(got)
	}
	for name, want := range map[string]string{"A": "env.A env", "B": "env.B env",
		"C": "env_file[1] env_file /etc/b (line 7)", "D": "env.D env"} {
		if key, where := p.Variable(name); key+" "+where != want {
			t.Errorf("%s: %s %s, want %s", name, key, where, want)
		}
	}
}

// TestHidden: no way to print a pool prints the value of a variable of a file.
func TestHidden(t *testing.T) {
	p := pool.Pool{FileEnv: map[string]pool.FileVariable{"A": {Value: "hf_secret"}}}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	one, err := json.Marshal(p.FileEnv)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("a pool", "pool", p, "value", p.FileEnv["A"].Value)
	for _, printed := range []string{string(text), string(one), log.String(),
		fmt.Sprintf("%v %+v %#v", p, p, p), fmt.Sprint(p.FileEnv), fmt.Sprintf("%q", p.FileEnv["A"].Value)} {
		if strings.Contains(printed, "hf_secret") {
			t.Error(printed)
		}
	}
}
