package memory

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

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
