package memory

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

func TestAvailable(t *testing.T) {
	if n, err := Available(); err != nil || n < mib || n > maxSane {
		t.Errorf("Available = %d, %v", n, err)
	}
	cases := []struct {
		name, text string
		want       uint64
		err        string
	}{
		{"kernel_6", "MemTotal:       16318140 kB\nMemFree:         1012 kB\nMemAvailable:    9000 kB\nBuffers: 1 kB\n", 9000 * 1024, ""},
		{"nothing_is_left", "MemAvailable: 0 kB", 0, ""},
		{"no_such_line", "MemTotal: 1 kB\n", 0, "no line MemAvailable"},
		{"another_unit", "MemAvailable: 5 MB\n", 0, `cannot read "MemAvailable: 5 MB"`},
		{"no_number", "MemAvailable: many kB\n", 0, "cannot read"},
		{"beyond_64_bits", "MemAvailable: 18446744073709551615 kB\n", 0, "cannot read"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseAvailable([]byte(c.text))
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("= %d, %v; want %d, %q", got, err, c.want, c.err)
			}
		})
	}
}

// FuzzAvailable: an error means no number.
func FuzzAvailable(f *testing.F) {
	f.Add([]byte("MemAvailable:    9000 kB\n"))
	f.Add([]byte("MemAvailable:\nMemAvailable: 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := parseAvailable(text); err != nil && n != 0 || n%1024 != 0 {
			t.Errorf("= %d, %v", n, err)
		}
	})
}

func TestCheckHost(t *testing.T) {
	cases := []struct {
		name                 string
		need                 Need
		available, memoryMax uint64
		want                 string // of the message; empty: it may start
	}{
		{"fits", Need{Host: gib}, gib, gib, ""},
		{"not_known", Need{Source: Unknown}, 0, 1, ""},
		{"no_limit", Need{Host: gib}, 2 * gib, 0, ""},
		{"too_little_is_available", Need{Host: 3 * gib}, gib, 0, "needs 3.0 GiB of main memory, and 1.0 GiB is available"},
		{"a_mapped_model_counts_and_is_named", Need{Host: 3 * gib, Mapped: 2 * gib}, gib, 0,
			"needs 3.0 GiB of main memory (2.0 GiB of it the model's file, mapped), and 1.0 GiB is available"},
		{"above_memory_max", Need{Host: 3 * gib}, 9 * gib, 2 * gib, "needs 3.0 GiB of main memory, and its memory_max is 2.0 GiB"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := CheckHost(c.need, c.available, c.memoryMax)
			if (f == nil) != (c.want == "") {
				t.Fatalf("CheckHost = %v, want %q", f, c.want)
			}
			if f != nil && (f.Code != registry.CodeInsufficientRAM || f.Message != c.want || f.Hint == "") {
				t.Errorf("%s\n%s\nwant %s", f, f.Hint, c.want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", mib - 1: "1.0 MiB", 24 * gib: "24.0 GiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("Size(%d) = %q, want %q", bytes, got, want)
		}
	}
}
