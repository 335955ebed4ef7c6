package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func noEnv(string) string { return "" }

func TestParse(t *testing.T) {
	cases := []struct {
		name string
		args string
		env  map[string]string
		want func(o options) bool
		err  string
	}{
		{name: "llama_server_command_line", args: "-m /srv/m.gguf --host 127.0.0.1 --port 21000 -c 512 -np 2 --metrics --slots",
			want: func(o options) bool { return o.Port == 21000 && o.Model == "/srv/m.gguf" && o.Slots == 2 }},
		{name: "negative_value_of_an_unknown_flag", args: "-ngl -1 --port 5",
			want: func(o options) bool { return o.Port == 5 }},
		{name: "own_flags", args: "--port=7 --load 3s --load-mode io --crash-after 1s --exit-code 9 --ignore-term " +
			"--listen-late --unload 2s",
			want: func(o options) bool {
				return o.Load == 3*time.Second && o.LoadMode == loadIO && o.CrashAfter == time.Second &&
					o.ExitCode == 9 && o.IgnoreTerm && o.ListenLate && o.Unload == 2*time.Second
			}},
		{name: "environment", env: map[string]string{"HOST": "127.0.0.9", "PORT": "81"},
			want: func(o options) bool { return o.Host == "127.0.0.9" && o.Port == 81 }},
		{name: "command_line_before_environment", args: "--port 82", env: map[string]string{"PORT": "81"},
			want: func(o options) bool { return o.Port == 82 }},
		{name: "version_needs_no_port", args: "--version", want: func(o options) bool { return o.Version }},
		{name: "no_port", args: "-c 5", err: "--port"},
		{name: "bad_duration", args: "--port 5 --load soon", err: "--load"},
		{name: "bad_mode", args: "--port 5 --load-mode slowly", err: "--load-mode"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o, err := parse(strings.Fields(c.args), func(k string) string { return c.env[k] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error = %v, want one about %s", err, c.err)
				}
				return
			}
			if err != nil || !c.want(o) {
				t.Errorf("parse = %+v, %v", o, err)
			}
		})
	}
}

func TestModelsNameDecides(t *testing.T) {
	if o := byModel(options{Model: "/srv/crash.gguf", CrashAfter: -1}); o.CrashAfter < 0 || o.ExitCode == 0 ||
		o.Load <= o.CrashAfter {
		t.Errorf("%+v", o)
	}
	if o := byModel(options{Model: "/srv/slow.gguf", CrashAfter: -1}); o.CrashAfter >= 0 || o.Load == 0 {
		t.Errorf("%+v", o)
	}
	if o := (options{Model: "/srv/tiny.gguf", CrashAfter: -1}); byModel(o) != o {
		t.Errorf("%+v", byModel(o))
	}
}

func TestLoadTakesItsTime(t *testing.T) {
	for _, mode := range []string{loadIO, loadLog, loadStall} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				load(t.Context(), options{Load: 1100 * time.Millisecond, LoadMode: mode, Model: "options.go"})
				if took := time.Since(began); took != 1100*time.Millisecond {
					t.Errorf("took %s, want 1.1s", took)
				}
			})
		})
	}
}

func call(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w.Code, w.Body.String()
}

func TestKey(t *testing.T) {
	env := map[string]string{"VLLM_API_KEY": "k"}
	o, err := parse([]string{"--port", "1"}, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	h := newEngine(o).routes()
	for path, want := range map[string]int{"/health": 503, "/metrics": 200, "/props": 401, "/slots": 401} {
		if code, _ := call(t, h, "GET", path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/props", nil)
	r.Header.Set("Authorization", "Bearer k")
	if h.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("with the key: %d", w.Code)
	}
}

func TestHealthFollowsLoadAndControl(t *testing.T) {
	o, err := parse([]string{"--port", "1", "-np", "3"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(o)
	h := e.routes()
	if code, body := call(t, h, "GET", "/health"); code != 503 || !strings.Contains(body, "Loading model") {
		t.Errorf("while loading: %d %s", code, body)
	}
	e.loaded.Store(true)
	if code, _ := call(t, h, "GET", "/health"); code != 200 {
		t.Errorf("loaded: %d", code)
	}
	call(t, h, "POST", "/stub/health?status=500")
	if code, _ := call(t, h, "GET", "/health"); code != 500 {
		t.Errorf("asked to be sick: %d", code)
	}
	if _, body := call(t, h, "GET", "/props"); !strings.Contains(body, `"total_slots":3`) {
		t.Errorf("props: %s", body)
	}
}

func TestSlotIsBusyDuringACompletion(t *testing.T) {
	e := newEngine(options{Slots: 2})
	e.loaded.Store(true)
	h := e.routes()
	done := make(chan string)
	go func() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/completions?delay=300ms", nil))
		done <- w.Body.String()
	}()
	busy := false
	for !busy {
		select {
		case <-done:
			t.Fatal("the completion ended and no slot was ever busy")
		default:
			_, body := call(t, h, "GET", "/slots")
			busy = strings.Count(body, "true") == 1
		}
	}
	if body := <-done; !strings.Contains(body, `"text":"stub"`) {
		t.Errorf("completion: %s", body)
	}
	if _, body := call(t, h, "GET", "/slots"); strings.Contains(body, "true") {
		t.Errorf("after the completion: %s", body)
	}
}
