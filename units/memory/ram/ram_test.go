package ram

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

func TestAvailable(t *testing.T) {
	if n, err := Available(); err != nil || n < mib || n > 1024*tib {
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
	f.Fuzz(mutate.Many(func(t *testing.T, text []byte) {
		if n, err := parseAvailable(text); err != nil && n != 0 || n%1024 != 0 {
			t.Errorf("= %d, %v", n, err)
		}
	}))
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

// TestTotal: the host has more memory than it has available.
func TestTotal(t *testing.T) {
	available, err := Available()
	if err != nil {
		t.Skip(err) // a kernel without MemAvailable
	}
	if total := Total(); total < available {
		t.Errorf("%d bytes in total, %d available", total, available)
	}
}
