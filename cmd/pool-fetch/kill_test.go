package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pool-fetch")
	out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return name
}

func serve(t *testing.T, name string, handler http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + net.JoinHostPort(name, u.Port())
}

// size is that of the large file, in bytes.
const size = 64 << 20

// site is a hub with one large file.
type site struct {
	*hub.Hub
	program, request string
	dir              string // of the artefact
	file             hub.File
}

func large(t *testing.T, program, token string) *site {
	t.Helper()
	model := &hub.Repo{Name: "org/model", Token: token, Files: []hub.File{
		hub.Bytes("model.gguf", hub.Data(1, size), true), hub.Bytes("config.json", []byte("{}"), false)}}
	h, err := hub.New(model)
	if err != nil {
		t.Fatal(err)
	}
	h.Endpoint = serve(t, "hub.test", h.Handler())
	h.CDN = serve(t, "cdn.test", h.CDNHandler())
	local := []string{"127.0.0.1"}
	r := wire.Request{Version: 1, Ref: "hf:org/model", CacheDir: t.TempDir(), Directory: "models--org--model",
		Endpoint: h.Endpoint, Hosts: map[string][]string{"hub.test": local, "cdn.test": local}, Connections: 4}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return &site{h, program, string(data), filepath.Join(r.CacheDir, r.Directory), model.Files[0]}
}

// run is one run of the program.
type run struct {
	*exec.Cmd
	out, err bytes.Buffer
}

func (s *site) start(t *testing.T, env ...string) *run {
	t.Helper()
	r := &run{Cmd: exec.Command(s.program)}
	r.Stdin, r.Stdout, r.Stderr = strings.NewReader(s.request), &r.out, &r.err
	r.Env = append(os.Environ(), env...)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// last returns the last event, and fails on lines that are none.
func (r *run) last(t *testing.T) wire.Event {
	t.Helper()
	var d wire.Decoder
	events := d.Feed(r.out.Bytes())
	if n, err := d.Bad(); n > 0 || len(events) == 0 {
		t.Fatalf("%d bad lines: %v\n%s%s", n, err, &r.out, &r.err)
	}
	return events[len(events)-1]
}

// pieces returns how many pieces of the file are there.
func (s *site) pieces() int {
	states, _ := filepath.Glob(filepath.Join(s.dir, "blobs", s.file.ID()+".*.ranges"))
	if len(states) != 1 {
		return 0
	}
	state, _ := os.ReadFile(states[0]) // gone when the file is complete
	_, done, _ := strings.Cut(string(state), "\n")
	return strings.Count(done, "1")
}

// TestProgram runs the real program.
func TestProgram(t *testing.T) {
	program := build(t)
	t.Run("killed", func(t *testing.T) { testKilled(t, large(t, program, "")) })
	t.Run("terminated", func(t *testing.T) { testTerminated(t, large(t, program, "")) })
	t.Run("token", func(t *testing.T) { testToken(t, large(t, program, "hf_sesame")) })
}

// testKilled: the program is killed at ten random points of a download. No piece that was there is
// lost, and the end is the same file.
func testKilled(t *testing.T, s *site) {
	s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Slow, N: 3 << 20},
		&hub.Fault{On: hub.CDN, Kind: hub.Expire, N: 1 << 20, Times: 3})
	before := 0
	for i := range 10 {
		r := s.start(t)
		time.Sleep(time.Duration(20+rand.N(700)) * time.Millisecond)
		for i == 5 && s.pieces() == 0 {
			time.Sleep(time.Millisecond) // on a slow host, one of the kills is after the first piece
		}
		if err := r.Process.Kill(); err != nil {
			t.Fatalf("the download ended before it was killed the %d. time: %v\n%s%s", i+1, err, &r.out, &r.err)
		}
		_ = r.Wait() // it was killed
		if n := s.pieces(); n < before {
			t.Errorf("%d pieces were there, and %d after the next kill", before, n)
		} else {
			before = n
		}
	}
	if before == 0 {
		t.Error("ten runs left nothing")
	}
	if _, err := os.Stat(filepath.Join(s.dir, "refs", "main")); err == nil {
		t.Error("refs/main names a snapshot that is not complete")
	}
	s.Heal()
	r := s.start(t)
	if err := r.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, &r.out, &r.err)
	}
	e := r.last(t)
	got, err := os.ReadFile(filepath.Join(e.Path, "model.gguf"))
	if err != nil || e.Kind != wire.Result || !bytes.Equal(got, hub.Data(1, size)) {
		t.Errorf("the last event is %+v, the file has %d bytes (%v)", e, len(got), err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "blobs", "*.*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// testTerminated: a signal ends the program within a second, with what to do about it, and what is
// there stays.
func testTerminated(t *testing.T, s *site) {
	s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Slow, N: 8 << 20})
	r := s.start(t)
	for until := time.Now().Add(time.Minute); s.pieces() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("no piece was fetched\n%s%s", &r.out, &r.err)
		}
	}
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = r.Wait() // the exit status is checked
	if code := r.ProcessState.ExitCode(); code != wire.ExitLater {
		t.Errorf("exit status %d", code)
	}
	if e := r.last(t); e.Reason != wire.Interrupted || s.pieces() == 0 {
		t.Errorf("the last event is %+v, and %d pieces are there", e, s.pieces())
	}
}

// testToken: the token is a credential of the unit, and is printed nowhere.
func testToken(t *testing.T, s *site) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("hf_sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.start(t)
	_ = r.Wait() // the exit status is checked
	if e := r.last(t); e.Reason != wire.NotFound || r.ProcessState.ExitCode() != wire.ExitFailed {
		t.Errorf("without a token: %+v, exit status %d", e, r.ProcessState.ExitCode())
	}
	r = s.start(t, "CREDENTIALS_DIRECTORY="+dir)
	if err := r.Wait(); err != nil || r.last(t).Kind != wire.Result {
		t.Errorf("%v\n%s%s", err, &r.out, &r.err)
	}
	if strings.Contains(r.out.String()+r.err.String(), "sesame") || len(s.Leaks()) > 0 {
		t.Errorf("the token is in the output, or reached %q:\n%s%s", s.Leaks(), &r.out, &r.err)
	}
}

// TestBadRequest: what is no request ends with status 2 and an event.
func TestBadRequest(t *testing.T) {
	for in, part := range map[string]string{
		"":                        "no JSON object",
		`{"version":2,"ref":"x"}`: "version is 2",
		`{"version":1,"ref":"gpt2","cache_dir":"/","directory":"x"}`:    "has no scheme",
		`{"version":1,"ref":"file:/x","cache_dir":"/","directory":"x"}`: "is on this host",
	} {
		code, out, _ := try(t, in)
		if code != wire.ExitUsage || !strings.Contains(out, part) || !strings.Contains(out, `"bad_request"`) {
			t.Errorf("%q: exit status %d, %s", in, code, out)
		}
	}
}
