package provision

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestChangedByDropIns: what changes a pool's units are its own drop-ins and those of all engines,
// and not those of another pool, however its name begins.
func TestChangedByDropIns(t *testing.T) {
	p := pool.Pool{ID: "my-model", Replicas: 2}
	for name, c := range map[string]struct {
		file string
		want bool
	}{
		"none":                       {"", false},
		"of_all_engines":             {"pool-engine@.service.d/local.conf", true},
		"of_all_units_of_pools":      {"pool-.service.d/local.conf", true},
		"of_all_services":            {"service.d/local.conf", true},
		"of_the_first_replica":       {`pool-engine@my\x2dmodel.r0.service.d/local.conf`, true},
		"of_the_second_replica":      {`pool-engine@my\x2dmodel.r1.service.d/local.conf`, true},
		"of_the_other_side":          {`pool-engine@my\x2dmodel.r1b.service.d/local.conf`, true},
		"of_a_replica_that_is_none":  {`pool-engine@my\x2dmodel.r2.service.d/local.conf`, false},
		"of_another_pool":            {"pool-engine@other.r0.service.d/local.conf", false},
		"of_a_pool_with_such_a_name": {`pool-engine@my\x2dmodel2.r0.service.d/local.conf`, false},
		"no_configuration":           {"pool-engine@.service.d/README", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if c.file != "" {
				path := filepath.Join(root, c.file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := changedByDropIns([]string{filepath.Join(root, "none"), root}, p); got != c.want {
				t.Errorf("changed: %t", got)
			}
		})
	}
}
