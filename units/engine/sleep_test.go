package engine

import (
	"os"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestSleep(t *testing.T) {
	dev := map[string]string{"VLLM_SERVER_DEV_MODE": "1"}
	for _, c := range []struct {
		name, engine string
		args         []string
		env          map[string]string
		path         string
		idle         bool
	}{
		{"llamacpp", LlamaCpp, []string{"--sleep-idle-seconds", "20"}, nil, "/props", true},
		{"llamacpp_by_variable", LlamaCpp, nil, map[string]string{"LLAMA_ARG_SLEEP_IDLE_SECONDS": "20"}, "/props", true},
		{"llamacpp_never", LlamaCpp, []string{"--sleep-idle-seconds", "-1"}, nil, "", false},
		{"llamacpp_without", LlamaCpp, []string{"--metrics"}, nil, "", false},
		{"vllm", VLLM, []string{"--enable-sleep-mode"}, dev, "/is_sleeping", false},
		{"vllm_spelled_otherwise", VLLM, []string{"--enable_sleep_mode"}, dev, "/is_sleeping", false},
		{"vllm_without_its_development_mode", VLLM, []string{"--enable-sleep-mode"}, nil, "", false},
		{"command", Program, []string{"--sleep-idle-seconds", "20"}, nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := For(c.engine)
			got := SleepOf(a, pool.Pool{Engine: c.engine, Args: c.args, Env: c.env})
			if got.Path != c.path || got.Idle != c.idle || (got.Read == nil) != (c.path == "") {
				t.Errorf("%+v, want %q, idle %t", got, c.path, c.idle)
			}
		})
	}
	for body, want := range map[string]string{
		`{"is_sleeping":true}`: "asleep", `{"is_sleeping":false}`: "awake", `{}`: "error", `{"is_sleeping":1}`: "error",
		`[]`: "error", ``: "error",
	} {
		got := "awake"
		asleep, err := sleeping([]byte(body))
		if asleep {
			got = "asleep"
		}
		if err != nil {
			got = "error"
		}
		if got != want || asleep && err != nil {
			t.Errorf("%q is %s, want %s", body, got, want)
		}
	}
}

func TestServedContext(t *testing.T) {
	path, read := ContextOf(llamaCpp{})
	real, err := os.ReadFile("testdata/answers/llamacpp-0.7.0-props.json")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := read(real); path != "/props" || n != 256 || err != nil {
		t.Errorf("%s: %d, %v", path, n, err)
	}
	for _, body := range []string{"", "{}", `{"default_generation_settings":{"n_ctx":-1}}`,
		`{"default_generation_settings":{"n_ctx":"x"}}`, `{"default_generation_settings":{"n_ctx":9223372036854775807}}`,
		`{"default_generation_settings":3}`} {
		if n, err := read([]byte(body)); err == nil || n != 0 {
			t.Errorf("%q: %d, %v", body, n, err)
		}
	}
	below := Served(llamaCpp{}, pool.Pool{Args: []string{"--api-prefix", "/x", "--sleep-idle-seconds", "20"}})
	if path, _ := ContextOf(below); path != "/x/props" {
		t.Errorf("below a prefix it is asked at %q", path)
	}
	if s := SleepOf(below, pool.Pool{Args: []string{"--sleep-idle-seconds", "20"}}); s.Path != "/x/props" {
		t.Errorf("below a prefix its sleep is asked at %q", s.Path)
	}
	if path, _ := ContextOf(command{}); path != "" {
		t.Errorf("a program of which nothing is known reports it at %s", path)
	}
}
