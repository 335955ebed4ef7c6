package gate

import (
	"bytes"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// said is a connection on which the other side has said something already, and has closed.
type said struct {
	net.Conn
	in *bytes.Reader
}

func (c said) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c said) Write(p []byte) (int, error) { return len(p), nil }

// FuzzGet: an engine may answer anything. It is healthy by its status alone, and, where the body
// matters, by a body that matches behind the header.
func FuzzGet(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.0 503 Loading model\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200"))
	f.Add([]byte("HTTP/1.1 +200 OK\n"))
	f.Add([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
	f.Add([]byte("HTTP/1.1 307 Temporary Redirect\r\nLocation: /x\r\n\r\n"))
	f.Add([]byte("\x15\x03\x01\x00\x02\x02\x46"))
	f.Fuzz(mutate.Many(func(t *testing.T, answer []byte) {
		plain := endpoint{path: "/health"}
		h, err := plain.get(said{in: bytes.NewReader(answer)}, "127.0.0.1:1", 200)
		healthy := h.answer == Healthy
		if healthy && (err != nil || !bytes.HasPrefix(bytes.TrimSpace(answer), []byte("HTTP/1."))) {
			t.Errorf("%q is healthy, %v", answer, err)
		}
		matched := endpoint{path: "/health", body: regexp.MustCompile("ok")}
		if h, err := matched.get(said{in: bytes.NewReader(answer)}, "127.0.0.1:1", 200); h.answer == Healthy {
			if err != nil || !healthy || !bytes.ContainsAny(answer, "o") || !bytes.ContainsAny(answer, "k") {
				t.Errorf("%q matches, %v", answer, err)
			}
		}
	}))
}

// FuzzLinePID: a line of the journal's JSON, whose fields any process may have written.
func FuzzLinePID(f *testing.F) {
	f.Add([]byte(`{"_PID":"17","MESSAGE":"x"}`))
	f.Add([]byte(`{"_PID":["17","18"]}`))
	f.Add([]byte(`{"_PID":"-17"}`))
	f.Add([]byte(`{"_PID":`))
	f.Fuzz(mutate.Many(func(t *testing.T, line []byte) {
		if pid, _ := lineOrigin(line); pid != 0 && !bytes.Contains(line, []byte("_PID")) && !bytes.Contains(line, []byte(`\u`)) &&
			!strings.Contains(strings.ToUpper(string(line)), "_PID") {
			t.Errorf("%q has process %d", line, pid)
		}
	}))
}

// FuzzProcStat: the name of a process is chosen by itself, and moves no other field.
func FuzzProcStat(f *testing.F) {
	const fields = " R 1 1 1 0 -1 4194304 300 0 7 0 50 25 0 0 20 0 9 0 100 1000000 64 18446744073709551615"
	want := parseProcStat("1 (x)" + fields)
	f.Add("x", "")
	f.Add(") S 2 (", "")
	f.Add("", "1 (x) R 1")
	f.Add("a\nb", "1 (x"+fields)
	f.Fuzz(mutate.Many(func(t *testing.T, name, other string) {
		if got := parseProcStat("1 (" + name + ")" + fields); got != want {
			t.Errorf("with the name %q: %+v, want %+v", name, got, want)
		}
		parseProcStat(other) // ends
	}))
}
