//go:build machine

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// manners is a server that behaves as engines and their start scripts do, and should not.
const manners = `#!/usr/bin/python3
import ctypes, os, signal, socket, sys, time
manner, port = sys.argv[1], int(sys.argv[2])
here = ("127.0.0.1", port)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
ANSWERS = {
    "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Sign in</html>",
    "empty": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
    "endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "login": b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
}
def serve(answer, seconds=1e9, kind=socket.AF_INET, at=here):
    s = socket.socket(kind, socket.SOCK_STREAM)
    if kind == socket.AF_INET:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(at)
    s.listen(64)
    end = time.time() + seconds
    open_ones = []
    while time.time() < end:
        s.settimeout(max(min(end - time.time(), 1), 0.01))
        try:
            c, _ = s.accept()
        except TimeoutError:
            continue
        try:
            c.settimeout(5)
            asked = c.recv(4096)
            c.sendall(answer)
        except OSError:
            continue
        if b"/die" in asked:
            os.kill(os.getppid(), signal.SIGKILL)
        if manner == "endless":
            open_ones = open_ones[-32:] + [c]
        else:
            c.close()
    s.close()
if manner == "daemon":
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    open(os.environ["HOME"] + "/server.pid", "w").write(str(os.getpid()))
elif manner == "title":
    ctypes.CDLL(None).prctl(15, b"a) R 1 2 (b", 0, 0, 0)
elif manner == "reopens":
    for _ in range(3):
        serve(b"HTTP/1.1 503 Loading\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 1)
        time.sleep(1)
elif manner == "line":
    os.write(2, b"x" * 1000000 + b" FATAL: the reason at its end")
    sys.exit(3)
elif manner == "orphan":
    if os.fork():
        signal.pause()
elif manner == "shared":
    import multiprocessing
    from multiprocessing import shared_memory
    multiprocessing.Lock()
    shared = shared_memory.SharedMemory(create=True, size=1 << 20)
    shared.buf[0] = 1
    shared.close()
    shared.unlink()
elif manner == "words":
    assert sys.argv[3:] == ["", "a\nb", "--name=", "'$HOME' %i"], sys.argv
    assert time.tzname[0] == "XYZ" and os.environ["LC_ALL"] == "de_DE.UTF-8", (time.tzname, os.environ)
elif manner == "socket":
    own = os.environ["HOME"] + "/its-own.sock"
    if os.path.exists(own):
        os.unlink(own)
    serve(GOOD, 1e9, socket.AF_UNIX, own)
elif manner == "port":
    serve(GOOD, 1e9, socket.AF_INET, ("127.0.0.1", 19999))
elif manner == "opens":
    assert open(sys.argv[3], "rb").read(4) == b"GGUF"
serve(ANSWERS.get(manner, GOOD))
`

// odd is a pool of that server.
func odd(manner string, more ...string) poolFile {
	return poolFile{keys: append([]string{`engine = "command"`, `devices = []`,
		arguments([]string{manner, "{port}", "{model}"})}, more...),
		tables: []string{"[provisioning]\nbinary = \"/usr/local/bin/manners\""}}.
		table("restart", `initial = "1s"`, `max = "2s"`, `jitter = 0.0`, `breaker_failures = 100`)
}

// TestEnginesOfOtherManners: servers that go to the background, change their name, close their port
// while they load, leave a child behind, share memory, answer with something else than their
// health, or log a megabyte without an end are ready, or their error names what they do and what to
// change.
func TestEnginesOfOtherManners(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.Container, extra: "python3"})
	h.write("/usr/local/bin/manners", manners)
	h.write("/usr/local/bin/any", "#!/bin/sh\nexport TZ=XYZ-3 LC_ALL=de_DE.UTF-8\nexec \"$@\"\n")
	h.shell(`chmod 755 /usr/local/bin/manners /usr/local/bin/any; mkdir -p /srv/real/m /srv/bound /srv/elsewhere; cp ` + host.TinyModel + ` /srv/real/m/x.gguf
		mount --bind /srv/real /srv/bound; mount -t tmpfs none /srv/elsewhere
		ln -s /srv/elsewhere/b.gguf /srv/a.gguf; ln -s ../bound/m/c.gguf /srv/elsewhere/b.gguf; ln -s x.gguf /srv/real/m/c.gguf
		chmod -R o+rX /srv/real; chmod 755 /srv/elsewhere`)
	defer h.shell("umount /srv/bound /srv/elsewhere; rm -rf /srv/real /srv/bound /srv/elsewhere /srv/a.gguf " +
		"/usr/local/bin/manners /usr/local/bin/any")
	stalls := []string{`start_timeout = "6s"`, `interval = "500ms"`, `timeout = "500ms"`}
	slow := func(manner string, more ...string) poolFile {
		return odd(manner).table("health", append(more, stalls...)...)
	}
	good := []string{"title", "reopens", "page", "packed", "orphan", "shared", "bound", "links", "words", "any"}
	for _, manner := range good[:6] {
		h.pool(manner, odd(manner).table("health", stalls...))
	}
	h.pool("shared", odd("shared", "port = 24917").table("health", stalls...))
	words := []string{"words", "{port}", "", "a\nb", "--name=", "'$HOME' %i"}
	ofWords := poolFile{keys: []string{`engine = "command"`, `devices = []`, arguments(words)},
		tables: []string{"[provisioning]\nbinary = \"/usr/local/bin/manners\""}}
	h.pool("words", ofWords.table("env", `TZ = "XYZ-3"`, `LC_ALL = "de_DE.UTF-8"`))
	ofWords.keys[2] = arguments(append([]string{"/usr/local/bin/manners"}, words...))
	ofWords.tables[0] = "[provisioning]\nbinary = \"/usr/local/bin/any\""
	h.pool("any", ofWords)
	h.pool("bound", odd("opens", `model = "file:/srv/bound/m/x.gguf"`))
	h.pool("links", odd("opens", `model = "file:/srv/a.gguf"`))
	bad := map[string]struct {
		file       poolFile
		code       string
		says, hint string
	}{
		"daemon":  {slow("daemon"), "ENGINE_START_FAILED", "left a process in the background", "foreground"},
		"line":    {slow("line"), "ENGINE_START_FAILED", "FATAL: the reason at its end", "poolctl logs"},
		"empty":   {slow("empty"), "ENGINE_START_TIMEOUT", "status 204 at /health", "[health]"},
		"login":   {slow("login"), "ENGINE_START_TIMEOUT", "a redirect to /login", "[health] path"},
		"endless": {slow("endless"), "ENGINE_START_TIMEOUT", "status 200 at /health, and an answer that did not end within 2s", "[health] path"},
		"socket":  {slow("socket"), "ENGINE_START_TIMEOUT", `the engine listens on the unix socket "`, "[health] start_timeout"},
		"alone":   {withoutNetwork(slow("socket")), "ENGINE_START_TIMEOUT", "/engine.sock", "SOCKET"},
		"port":    {slow("port"), "ENGINE_START_TIMEOUT", "the engine listens on 127.0.0.1:19999, not on 127.0.0.1:", "PORT"},
		"body":    {slow("page", `body = "^ok$"`), "ENGINE_START_TIMEOUT", "a body that does not match", "[health] body"},
	}
	for name, c := range bad {
		h.pool(name, c.file)
	}
	h.reload()
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.waitFor(time.Minute, name, failsWith(c.code), condition{"explained", func(p host.Pool) bool {
				return strings.Contains(p.LastError, c.says) && strings.Contains(p.Hint, c.hint)
			}})
			p := h.get(name)
			t.Logf("%.400s\nhint: %s", p.LastError, p.Hint)
			if p.LastError == "" || len(p.LastError) > 2000 {
				t.Errorf("an error of %d bytes", len(p.LastError))
			}
		})
	}
	for _, name := range good {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.waitFor(time.Minute, name, isReady)
			if unit := h.unit(host.EngineUnit(name)); unit.NRestarts != 0 {
				t.Errorf("%d restarts", unit.NRestarts)
			}
		})
	}
	t.Run("a_fixed_port_in_TIME_WAIT", func(t *testing.T) {
		h := h.in(t)
		port := "24917" // of the pool "shared"
		h.shell(`curl -sS -m 5 http://127.0.0.1:` + port + `/; ss -Htan state time-wait "sport = :` + port + `" | grep -q ` + port)
		before := h.engine("shared")
		h.must("poolctl", "restart", "shared", "--wait")
		p := h.waitFor(time.Minute, "shared", isReady)
		if after := h.engine("shared"); after.PID == before.PID || p.LastError != "" {
			t.Errorf("process %d after %d, last error %q", after.PID, before.PID, p.LastError)
		}
	})
	t.Run("a_child_holds_the_port_of_its_parent", func(t *testing.T) {
		h := h.in(t)
		before := h.engine("orphan")
		h.shell("curl -sS -m 5 " + h.get("orphan").Replicas[0].Endpoint + "/die || true")
		h.waitFor(time.Minute, "orphan", restarted(1))
		if after := h.engine("orphan"); after.PID == before.PID {
			t.Errorf("the same process %d", after.PID)
		}
	})
}
