package supervise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Desired is what the configuration asks for.
type Desired struct {
	Pools []pool.Pool
	// Problems are the pool files that are wrong.
	Problems []registry.Problem
	// HostProblems are what is wrong with the host's own configuration; they are only shown.
	HostProblems []registry.Problem
	// Refuse reports why the host's policy forbids a pool, nil where it does not.
	Refuse func(pool.Pool) *registry.Failure
	// Preload returns the pool that another program asks for; nil where the host's configuration
	// cannot be read.
	Preload func(id string, ask pool.Preload) (pool.Pool, error)
	// SoftReboot asks that engines keep running over a soft-reboot, from their next start on.
	SoftReboot bool
	// VRAMOnly has engines refused that leave a part of a model to the CPU, from their next start
	// on.
	VRAMOnly bool
	// HostInvalid reports that the host's configuration itself cannot be read: nothing is started
	// and nothing stopped until it can.
	HostInvalid bool
}

// Apply puts a new configuration in force and returns when the loop has taken it. Pools that are
// the same in both are not touched.
func (s *Supervisor) Apply(ctx context.Context, d Desired) error {
	done := make(chan struct{})
	select {
	case s.events <- func() { s.apply(d); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// faults sorts the problems by pool. unnamed is set when a file is wrong that names no pool: it may
// be the file of any pool, so that none may be taken as removed.
func (d Desired) faults() (byPool map[string]*registry.Failure, unnamed *registry.Failure) {
	byPool = make(map[string]*registry.Failure)
	for _, p := range d.Problems {
		f := registry.Fail(registry.CodeConfigInvalid, p.Text, p.Hint)
		switch {
		case p.PoolID == "":
			unnamed = f
		case byPool[p.PoolID] == nil:
			byPool[p.PoolID] = f
		default:
			byPool[p.PoolID].Message += "; " + p.Text
		}
	}
	return byPool, unnamed
}

// ports are those that pool files name.
func (d Desired) ports() []int {
	var ports []int
	for _, p := range d.Pools {
		for i := range p.Replicas {
			if p.Port != 0 {
				ports = append(ports, p.Port+i)
			}
		}
	}
	return ports
}

func (s *Supervisor) apply(d Desired) {
	s.wanted, s.applied = d, true
	s.o.Registry.SetProblems(slices.Concat(d.HostProblems, d.Problems))
	s.o.Ports.Reserve(d.ports())
	s.hostWishes(d.SoftReboot, d.VRAMOnly)
	faults, unnamed := d.faults()
	seen := make(map[string]bool, len(d.Pools))
	for _, p := range d.Pools {
		seen[p.ID] = true
		s.want(p, d.Refuse)
	}
	named := maps.Clone(seen)
	s.applyPreloads(d, seen)
	for id, f := range faults {
		if !named[id] {
			s.invalid(s.entry(id), f)
		}
	}
	if !d.HostInvalid && unnamed == nil {
		s.dropUnknownHistories()
		for id := range s.o.Intents {
			s.entry(id) // a pool that was removed while no manager ran: what was asked of it is dropped with it
		}
	}
	for id, e := range s.entries {
		if seen[id] || faults[id] != nil {
			continue
		}
		switch {
		case d.HostInvalid:
			s.invalid(e, registry.Fail(registry.CodeConfigInvalid,
				"could not read the host's configuration; pools stay as they are",
				"Run pool-managerd --check, fix the file, then run systemctl reload pool-managerd."))
		case unnamed != nil:
			s.invalid(e, registry.Fail(registry.CodeConfigInvalid,
				"not removed, because its file may be one that could not be read: "+unnamed.Message, unnamed.Hint))
		default:
			s.unwant(e)
		}
	}
	s.retryFailed()
	s.decideAll()
	s.showGPUs()
}

// retryFailed tries each preparation that failed again at once: what was in its way, such as a
// policy, a missing file or another pool's mask, may be what was changed.
func (s *Supervisor) retryFailed() {
	for _, e := range s.entries {
		for _, r := range e.replicas {
			if r.prep.hasFailed() {
				r.prep.retryAt = time.Time{}
			}
		}
	}
}

// want puts a valid version of a pool in force.
func (s *Supervisor) want(p pool.Pool, refuse func(pool.Pool) *registry.Failure) {
	e := s.entry(p.ID)
	changed := e.known && !samePool(e.file, p)
	e.file, e.known, e.wanted, e.invalid, e.refusal = p, true, true, nil, nil
	if refuse != nil {
		e.refusal = refuse(e.asked())
	}
	s.assign(e)
	s.dropStale(e, changed)
	s.look(e)
}

// invalid keeps the former version of a pool whose file went wrong; where no former version is
// known, what runs is held as it is.
func (s *Supervisor) invalid(e *entry, f *registry.Failure) {
	if len(e.replicas) > 0 && (e.invalid == nil || e.invalid.Message != f.Message) {
		s.o.Log.Warn(fmt.Sprintf("pool %s: could not read its file; the engines keep running", e.id),
			withValues(e.about(), "last_error", f.Error())...)
	}
	e.invalid, e.wanted = f, true
	for _, r := range e.replicas {
		r.updateWish()
	}
	s.dirty = true
}

func (s *Supervisor) unwant(e *entry) {
	if e.wanted {
		s.o.Log.Info(fmt.Sprintf("pool %s was removed", e.id), e.about()...)
	}
	e.wanted, e.invalid, e.refusal = false, nil, nil
	for _, r := range e.replicas {
		r.updateWish()
		r.prep.giveUp()
	}
}
