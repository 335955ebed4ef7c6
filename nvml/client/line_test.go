package client

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// TestLongestLine: a line of exactly MaxLine bytes passes, one more does not, however the bytes
// come.
func TestLongestLine(t *testing.T) {
	const frame = `{"pool_gpu":1,"error":""}` + "\n"
	for _, c := range []struct {
		name string
		size int
		ok   bool
	}{{"at_the_bound", wire.MaxLine, true}, {"one_more", wire.MaxLine + 1, false}} {
		t.Run(c.name, func(t *testing.T) {
			line := strings.Replace(frame, `""`, `"`+strings.Repeat("x", c.size-len(frame))+`"`, 1)
			for name, r := range map[string]io.Reader{"whole": strings.NewReader(line),
				"halves": iotest.HalfReader(strings.NewReader(line))} {
				if _, err := newLines(r).next(); (err == nil) != c.ok {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// FuzzLines: whatever comes, a line is read whole or not at all, never past the bound, in the order
// of the stream, and the same however the bytes come.
func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"pool_gpu":1,"granted":true}` + "\n" + `{"pool_gpu":1,"event":{"kind":"xid","code":79}}` + "\n"))
	f.Add([]byte(`{"pool_gpu":2}` + "\n"))
	f.Add([]byte(`{"pool_gpu":1,"snapshot":{"taken":"2026-01-02T03:04:05Z","devices":` +
		`[{"uuid":"GPU-1","pci":"","index":0}]}}` + "\n{"))
	f.Add([]byte("\n\n[]\nnull\n{}\n"))
	f.Add([]byte(`{"pool_gpu":1.5}` + "\n" + `{"pool_gpu":null}`))
	f.Fuzz(mutate.Many(func(t *testing.T, stream []byte) {
		const bound = 64
		read := func(r io.Reader) (all []wire.Reply, end error) {
			l := newLines(r)
			l.max = bound
			for {
				reply, err := l.next()
				if err != nil {
					return all, err
				}
				if reply.Version != wire.Version {
					t.Fatalf("a reply of version %d passed", reply.Version)
				}
				all = append(all, reply)
			}
		}
		got, end := read(bytes.NewReader(stream))
		again, endAgain := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if text(got) != text(again) || end.Error() != endAgain.Error() {
			t.Errorf("%s (%v) at once, %s (%v) byte by byte", text(got), end, text(again), endAgain)
		}
		lines := bytes.SplitAfter(stream, []byte("\n"))
		for i := range got {
			if len(lines[i]) > bound || !bytes.HasSuffix(lines[i], []byte("\n")) {
				t.Errorf("line %d of %d bytes passed: %q", i, len(lines[i]), lines[i])
			}
		}
		if end == io.EOF && len(stream) > 0 && stream[len(stream)-1] != '\n' {
			t.Errorf("the stream ended within a line, without an error")
		}
	}))
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
