package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/units/fetch"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// try runs the command.
func try(t *testing.T, in string, args ...string) (code int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	code = program{strings.NewReader(in), &o, &e}.run(t.Context(), args)
	return code, o.String(), e.String()
}

// TestRequest: what is printed is a request that pool-fetch reads, with the hosts' addresses.
func TestRequest(t *testing.T) {
	code, out, stderr := try(t, "", "request", "--endpoint", "http://127.0.0.1:8080", "--cache-dir", "/c",
		"--host", "::1", "hf:a/b@main:Q4_0")
	if code != 0 {
		t.Fatal(code, stderr)
	}
	got, err := wire.ReadRequest(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Request{Version: 1, Ref: "hf:a/b@main:Q4_0", CacheDir: "/c", Directory: "models--a--b", Connections: 8,
		Endpoint: "http://127.0.0.1:8080", Hosts: map[string][]string{"127.0.0.1": {"127.0.0.1"}, "::1": {"::1"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSecrets: the credentials of a unit are read in each of their forms, and a file that is none
// is named.
func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", "hf_x\n")
	write("registry-auth", "{\n}\n")
	write("s3-credentials", "[default]\naws_access_key_id = A\naws_secret_access_key = S\n")
	got, err := secrets(dir)
	want := fetch.Secrets{HubToken: "hf_x", Registry: "{\n}", Store: fetch.StoreKeys{Access: "A", Secret: "S"}}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	write("s3-credentials", "A:S")
	if _, err := secrets(dir); err == nil || !strings.Contains(err.Error(), "s3-credentials") {
		t.Errorf("a file that is none: %v", err)
	}
	write("token", "a\nb")
	write("s3-credentials", "")
	if _, err := secrets(dir); err == nil || !strings.Contains(err.Error(), "token has more than one line") {
		t.Errorf("a token of two lines: %v", err)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"request"}, 2, "Usage"},
		{[]string{"request", "gpt2"}, 2, "has no scheme"},
		{[]string{"request", "file:/x"}, 2, "is on this host"},
		{[]string{"request", "--endpoint", "x", "hf:a/b"}, 2, "is no endpoint"},
		{[]string{"request", "--endpoint", "http://127.0.0.1", "--digest", "x", "hf:a/b"}, 2, "digest is not"},
		{[]string{"request", "--what", "hf:a/b"}, 2, "Usage"},
		{[]string{"resolve"}, 2, "Usage"},
		{[]string{"fetch"}, 2, "Usage"},
		{[]string{"--help"}, 0, "Usage"},
		{[]string{"--version"}, 0, "pool-fetch devel"},
	} {
		code, out, stderr := try(t, "", c.args...)
		if code != c.code || !strings.Contains(out+stderr, c.says) {
			t.Errorf("%q: exit status %d, %s%s", c.args, code, out, stderr)
		}
	}
}

func TestResolve(t *testing.T) {
	code, out, _ := try(t, "", "resolve", "127.0.0.1")
	if want := `{"event":"hosts","hosts":{"127.0.0.1":["127.0.0.1"]}}` + "\n"; code != 0 || out != want {
		t.Errorf("exit status %d, %s", code, out)
	}
	code, out, _ = try(t, "", "resolve", "no such host")
	if code != 75 || !strings.Contains(out, `"reason":"network"`) {
		t.Errorf("exit status %d, %s", code, out)
	}
}

func TestCheck(t *testing.T) {
	result := `{"event":"result","commit":"c","path":"/m/d/snapshots/c"}` + "\n"
	for _, c := range []struct {
		in   string
		code int
		says string
	}{
		{`{"event":"plan","commit":"c"}` + "\n" + result, 0, `2 events, 0 lines that are none; the last event is "result"`},
		{`{"event":"error","reason":"network","message":"m"}` + "\n", 0, `"error"`},
		{"hello\n" + result, 1, "no event in JSON"},
		{`{"event":"plan"}` + "\n", 1, "neither"},
		{"", 1, "0 events"},
	} {
		code, out, stderr := try(t, c.in, "check")
		if code != c.code || !strings.Contains(out+stderr, c.says) {
			t.Errorf("%q: exit status %d, %s%s", c.in, code, out, stderr)
		}
	}
	for cache, want := range map[string]int{"/m": 0, "/other": 1, "relative": 2} {
		name := filepath.Join(t.TempDir(), "request.json")
		request := `{"version":1,"ref":"hf:a/b","cache_dir":"` + cache + `","directory":"d"}`
		if err := os.WriteFile(name, []byte(request), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, stderr := try(t, result, "check", name); code != want {
			t.Errorf("a result in /m, asked for in %s: exit status %d, %s%s", cache, code, out, stderr)
		}
	}
}
