package memory

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestCheckHost(t *testing.T) {
	mapped := Need{Host: 3 * gib, Mapped: 5 * gib / 2}
	const text = "needs 3.0 GiB of main memory (2.5 GiB of it the model's file, mapped), and 1.0 GiB is available"
	const again = "; the kernel reads what does not fit from the disk again and again"
	cases := []struct {
		name                 string
		need                 Need
		available, memoryMax uint64
		check                string
		refused, warning     string
	}{
		{"fits", Need{Host: gib}, gib, gib, "", "", ""},
		{"not_known", Need{Source: Unknown}, 0, 1, "", "", ""},
		{"no_limit", Need{Host: gib}, 2 * gib, 0, "", "", ""},
		{"too_little_is_available", Need{Host: 3 * gib}, gib, 0, "", "needs 3.0 GiB of main memory, and 1.0 GiB is available", ""},
		{"a_mapped_model_warns", mapped, gib, 0, "", "", text + again},
		{"unless_the_rest_does_not_fit", Need{Host: 3 * gib, Mapped: gib}, gib, 0, "",
			"needs 3.0 GiB of main memory (1.0 GiB of it the model's file, mapped), and 1.0 GiB is available", ""},
		{"or_the_file_refuses_it", mapped, gib, 0, pool.MemoryRefuse, text, ""},
		{"or_warns_of_all", Need{Host: 3 * gib}, gib, 0, pool.MemoryWarn, "", "needs 3.0 GiB of main memory, and 1.0 GiB is available"},
		{"or_checks_nothing", Need{Host: 3 * gib}, gib, gib, pool.MemoryOff, "", ""},
		{"above_memory_max", Need{Host: 3 * gib}, 9 * gib, 2 * gib, "", "needs 3.0 GiB of main memory, and its memory_max is 2.0 GiB", ""},
		{"mapped_above_memory_max_warns", mapped, 9 * gib, gib, "", "",
			"needs 3.0 GiB of main memory (2.5 GiB of it the model's file, mapped), and its memory_max is 1.0 GiB" + again},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{MemoryCheck: c.check, Limits: pool.Limits{MemoryMaxBytes: c.memoryMax}}
			f, warning := CheckHost(c.need, c.available, p)
			if (f == nil) != (c.refused == "") || warning != c.warning {
				t.Fatalf("CheckHost = %v, %q, want %q, %q", f, warning, c.refused, c.warning)
			}
			if f != nil && (f.Code != registry.CodeInsufficientRAM || f.Message != c.refused || f.Hint == "") {
				t.Errorf("%s\n%s\nwant %s", f, f.Hint, c.refused)
			}
		})
	}
}
