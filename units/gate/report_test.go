package gate

import (
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	var r report
	nothing := func() string { return "" }
	loading := func() string { return "status 503 at /health" }
	if text := r.next(Sample{At: 59 * time.Second}, 0, nothing); text != "" {
		t.Errorf("after 59 s: %q", text)
	}
	s := Sample{At: 62 * time.Second, CPU: 3100 * time.Millisecond, Memory: 2_140_000_000}
	const want = "still loading after 1m2s: CPU 3.1 s, memory 2.1 GB; last progress 4s ago; seen: status 503 at /health"
	if text := r.next(s, 4*time.Second, loading); text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if text := r.next(Sample{At: 100 * time.Second}, 0, nothing); text != "" {
		t.Errorf("less than a minute later: %q", text)
	}
	s = Sample{At: 130 * time.Second, Read: 4_000_000, Written: 200_000}
	if text := r.next(s, 0, nothing); !strings.Contains(text, "input and output 4.2 MB") {
		t.Errorf("with input: %q", text)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 9_960: "10 kB",
		999_600: "1.0 MB", 2_140_000_000: "2.1 GB", 1 << 62: "4611686 TB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
