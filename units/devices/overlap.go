package devices

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Claim is one replica's request for devices.
type Claim struct {
	Pool    string
	Replica int
	Shared  bool // the pool's key shared
	Running bool // it already has them
	Targets []Target
}

// Claimed identifies the replica of a claim.
type Claimed struct {
	Pool    string
	Replica int
}

// Overlaps returns, for each replica whose mask overlaps another's, why it cannot have its devices.
// A running replica keeps its devices; otherwise the first by pool and replica gets them. Two pools
// that both set shared may overlap. A MIG partition overlaps its whole GPU and itself, not another
// partition.
func Overlaps(claims []Claim) map[Claimed]*registry.Failure {
	sorted := slices.Clone(claims)
	slices.SortStableFunc(sorted, func(a, b Claim) int {
		if a.Running != b.Running {
			if a.Running {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Replica, b.Replica))
	})
	refused := make(map[Claimed]*registry.Failure)
	var granted []Claim
	for _, c := range sorted {
		if f := against(c, granted); f != nil {
			refused[Claimed{c.Pool, c.Replica}] = f
			continue
		}
		granted = append(granted, c)
	}
	return refused
}

func against(c Claim, granted []Claim) *registry.Failure {
	for _, g := range granted {
		if c.Shared && g.Shared {
			continue
		}
		for _, mine := range c.Targets {
			for _, theirs := range g.Targets {
				if overlap(mine, theirs) {
					return invalid(fmt.Sprintf("device %q (%s) is in use by pool %s, replica r%d",
						mine.Entry, mine.UUID, g.Pool, g.Replica),
						"Give the pools different devices, or set shared = true in both; poolctl devices shows "+
							"who has which.")
				}
			}
		}
	}
	return nil
}

func overlap(a, b Target) bool {
	return a.UUID == b.UUID || a.GPU == b.GPU && a.MIG != b.MIG
}
