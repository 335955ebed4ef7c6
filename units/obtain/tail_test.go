package obtain

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

func TestNameservers(t *testing.T) {
	for _, c := range []struct{ name, conf, want string }{
		{"two", "search x\nnameserver 192.0.2.1\nnameserver  2001:db8::1 # y\nnameserver 192.0.2.1\n", "[192.0.2.1 2001:db8::1]"},
		{"with_a_zone", "nameserver fe80::1%eth0\n", "[fe80::1]"},
		{"none", "# nameserver 192.0.2.1\nnameserver x\nnameserver\n", "[127.0.0.1 ::1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(nameservers(c.conf)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestTail: an output that grows without end is truncated, and a hostile one costs a line.
func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	out := tail{path: path}
	if events := out.read(); events != nil {
		t.Errorf("no file: %v", events)
	}
	line := string(wire.Event{Kind: wire.Progress, Bytes: 1, Total: 2}.Append(nil))
	append1 := func(text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	append1(line[:10])
	if events := out.read(); len(events) != 0 {
		t.Errorf("half a line: %v", events)
	}
	append1(line[10:] + "{\x00}\n" + strings.Repeat("x", 100_000) + "\n" + line)
	if events := out.read(); len(events) != 2 {
		t.Errorf("two lines and two that are none: %v", events)
	}
	append1(strings.Repeat(line, outputMost/len(line)))
	if events := out.read(); len(events) == 0 {
		t.Error("nothing of a large output")
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("it was not truncated: %v, %v", info.Size(), err)
	}
	append1(line)
	if events := out.read(); len(events) != 1 {
		t.Errorf("after that: %v", events)
	}
}
