package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEncodeList: an element at a time, a list is encoded as it is at once.
func TestEncodeList(t *testing.T) {
	host := FleetHost{Name: "<gpu>&", MachineID: "m"}
	pool := FleetPool{Node: "gpu1", ID: "a", Replicas: []FleetReplica{{ID: "r0"}, {ID: "r1"}}}
	for name, v := range map[string]any{
		"nothing": FleetPools{},
		"empty":   FleetPools{Hosts: []FleetHost{}, Pools: []FleetPool{}, Conflicts: []FleetConflict{}},
		"one":     FleetPools{Prefix: "/x", Revision: 7, Hosts: []FleetHost{host}, Truncated: true},
		"several": FleetPools{Hosts: []FleetHost{host, host}, Pools: []FleetPool{pool, pool, pool}, Skipped: 3},
		"models":  FleetModels{Prefix: "/x", Models: []FleetModel{{Model: "hf:a/b"}, {Model: "hf:c/d"}}},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := Encode(v)
			if err != nil {
				t.Fatal(err)
			}
			for _, room := range []int{0, 1, 1 << 20} {
				got, err := EncodeList(v, room)
				if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil {
					t.Errorf("%v (-want +got)\n%s", err, diff)
				}
			}
		})
	}
}
