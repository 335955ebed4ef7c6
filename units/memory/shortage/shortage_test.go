package shortage_test

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/memory/shortage"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestClause(t *testing.T) {
	const gib = 1 << 30
	ours := pool.Replica{Pool: "llama3"}.Unit()
	for _, c := range []struct {
		name  string
		short wire.Short
		want  string
	}{
		{"no_one_is_known", wire.Short{Need: 2 * gib, Free: gib}, "GPU 0: needs 2.0 GiB, and 1.0 GiB is free"},
		{"a_pool_a_process_and_a_reservation", wire.Short{Need: 2 * gib, Free: gib, Total: 4 * gib, Reserved: gib, Holders: []wire.Holder{
			{Unit: ours, Used: 2 * gib}, {Unit: ours, Reserved: gib}, {PID: 7, Used: gib}, {Unit: "x.service", PID: 8}}},
			"GPU 0: needs 2.0 GiB, and 1.0 GiB of 4.0 GiB is free, of which 1.0 GiB is reserved for replicas that are loading " +
				"(held by pool llama3/r0 with 2.0 GiB, pool llama3/r0, 1.0 GiB reserved, process 7 with 1.0 GiB, process 8 of x.service)"},
		{"more_than_are_named", wire.Short{Holders: make([]wire.Holder, 6)},
			"GPU 0: needs 0 B, and 0 B is free (held by " + strings.Repeat("an unknown process, ", 4) + "2 more)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := shortage.Clause(c.short, "GPU 0"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
