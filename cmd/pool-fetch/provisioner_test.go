package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// provision runs a script as a provisioner, and reads what it prints as the manager does.
func provision(t *testing.T, script string, r wire.Request, env ...string) (events []wire.Event, bad, code int) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "provisioner")
	if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", name)
	c.Stdin, c.Env = bytes.NewReader(request), append(os.Environ(), env...)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var d wire.Decoder
	buffer := make([]byte, 32<<10)
	for {
		n, err := out.Read(buffer)
		events = append(events, d.Feed(buffer[:n])...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	bad, _ = d.Bad()
	return events, bad, c.ProcessState.ExitCode()
}

// documented returns the script in the documentation of the protocol.
func documented(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/provisioners.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(page), "```sh\n")
	script, _, ended := strings.Cut(script, "```\n")
	if !found || !ended {
		t.Fatal("the page has no script")
	}
	return script
}

// TestExternalProvisioner: the script of the documentation gets a model into the cache, and reports
// what it cannot do.
func TestExternalProvisioner(t *testing.T) {
	nas := t.TempDir()
	if err := os.MkdirAll(filepath.Join(nas, "org", "model"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(nas, "org", "model", "x.gguf"), []byte("weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := modelref.Parse("nas:org/model")
	if err != nil {
		t.Fatal(err)
	}
	r := wire.Request{Version: 1, Ref: ref.String(), CacheDir: t.TempDir(), Directory: ref.Directory()}
	for range 2 { // the second replaces the first
		events, bad, code := provision(t, documented(t), r, "NAS="+nas)
		if code != wire.ExitDone || bad != 0 || len(events) != 2 {
			t.Fatalf("exit status %d, %d bad lines, %+v", code, bad, events)
		}
		result := events[1]
		if !result.In(r) || result.Bytes != 7 {
			t.Errorf("the result is %+v", result)
		}
		if data, err := os.ReadFile(filepath.Join(result.Path, "x.gguf")); err != nil || string(data) != "weights" {
			t.Errorf("the model is %q (%v)", data, err)
		}
		there := library.Find(r.CacheDir, ref)
		if there.Whole != library.Yes || there.Path != filepath.Join(result.Path, "x.gguf") {
			t.Errorf("the cache has %+v", there)
		}
	}
	for ref, reason := range map[string]wire.Reason{"nas:org/other": wire.NotFound,
		"nas:org": wire.BadRequest} {
		r.Ref = ref
		events, _, code := provision(t, documented(t), r, "NAS="+nas)
		if len(events) != 1 || events[0].Reason != reason || code != reason.Exit() {
			t.Errorf("%s: exit status %d, %+v", ref, code, events)
		}
	}
}

// TestHostileProvisioner: whatever a program prints, and however much, costs neither memory nor
// more than its own result.
func TestHostileProvisioner(t *testing.T) {
	r := wire.Request{Version: 1, Ref: "hf:org/model", CacheDir: "/m", Directory: "d"}
	const end = `printf '\n{"event":"error","reason":"network","message":"m"}\n'; exit 75`
	for name, c := range map[string]struct {
		script string
		bad    int
	}{
		"endless_line":   {"head -c 64000000 /dev/zero | tr '\\0' x\n" + end, 1},
		"binary":         {"head -c 4000 /dev/urandom | tr -d '\\n'\n" + end, 1},
		"nested_json":    {"head -c 4000 /dev/zero | tr '\\0' '['\n" + end, 1},
		"half_a_line":    {`printf '{"event":"plan"'` + "\n" + end, 1},
		"escapes":        {`printf '{"event":"error","reason":"network","message":"\\u001b[2J"}'` + "\n" + end, 1},
		"foreign_result": {`printf '{"event":"result","commit":"c","path":"/m/d/snapshots/c/../../../../etc"}'` + "\n" + end, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			events, bad, code := provision(t, c.script, r)
			runtime.ReadMemStats(&after)
			if bad != c.bad || code != wire.ExitLater || len(events) != 1 || events[0].Reason != wire.Network {
				t.Errorf("exit status %d, %d bad lines, %+v", code, bad, events)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
				t.Errorf("reading it took %d bytes of memory", used)
			}
		})
	}
}
