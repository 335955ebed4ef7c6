package supervise

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/gpus"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// gpuGrace bounds how long a pool with GPUs waits for the first facts about them. They come within
// a second where there is a driver that answers.
const gpuGrace = 5 * time.Second

// followGPUs takes what the source reports until ctx ends.
func (s *Supervisor) followGPUs(ctx context.Context) {
	if s.o.GPUs == nil {
		return
	}
	s.effects.Go(func() {
		err := s.o.GPUs.Follow(ctx, func(u nvml.Update) { s.post(func() { s.gpuUpdate(u) }) })
		if err != nil && ctx.Err() == nil {
			s.o.Log.Error("GPUs are no longer monitored until the manager restarts", "err", err)
		}
	})
}

// gpuUpdate takes one update on the loop.
func (s *Supervisor) gpuUpdate(u nvml.Update) {
	if u.Event != nil {
		s.gpuVerdict(classifyEvent(*u.Event), "", time.Now())
		return
	}
	_, moved := s.gpus.Update(u, time.Now())
	s.noteAnswers()
	if s.gpus.Known() {
		s.first.Do(func() { close(s.gpusKnown) })
	}
	for _, r := range s.masked() {
		if moved {
			s.resolveMask(r)
		}
		s.noteMemory(r)
		s.updateBlocked(r, time.Now())
		s.settle(r)
	}
	s.watchLogs()
	s.showGPUs()
}

// updateBlocked finds out why a replica may not use its GPUs now. A device node that is missing
// keeps back only starts: what runs has its nodes open.
func (s *Supervisor) updateBlocked(r *replica, now time.Time) {
	r.gpu.blocked = s.gpus.Blocked(r.gpu.targets, now)
	if r.gpu.blocked == nil && !has(r.unit.phase) && r.unit.phase != reconcile.Stopping {
		r.gpu.blocked = s.gpus.NoNode(r.gpu.targets)
	}
}

// masked are the replicas that are given GPUs, or ask for some.
func (s *Supervisor) masked() []*replica {
	var list []*replica
	for _, e := range s.entries {
		for _, r := range e.replicas {
			if len(r.asked()) > 0 || len(r.gpu.targets) > 0 {
				list = append(list, r)
			}
		}
	}
	return list
}

// asked is the device mask as the pool file has it.
func (r *replica) asked() []string {
	if r.wish.known && r.id.Index < len(r.wish.pool.Devices) {
		return r.wish.pool.Devices[r.id.Index]
	}
	return nil
}

// resolveMask has a mask resolved again where the devices changed and no process uses them. What
// runs keeps what it was given.
func (s *Supervisor) resolveMask(r *replica) {
	if r.prep.stage == reconcile.Failed && r.prep.failure != nil && aboutDevices(r.prep.failure.Code) {
		r.prep.forgetAttempts()
		return
	}
	if r.prep.prepare == reconcile.Done && !r.unit.phase.Exists() && r.job.action == reconcile.None {
		r.prep.prepare = reconcile.Pending
	}
}

// aboutDevices reports whether other devices could fix a failure.
func aboutDevices(c registry.Code) bool {
	return c == registry.CodeGPUUnavailable || c == registry.CodeDeviceMaskInvalid
}

// awaitGPUs waits, beside the loop, until the host's GPUs are known or gpuGrace has passed, and
// returns the newest facts, nil where there are none.
func (s *Supervisor) awaitGPUs(ctx context.Context) *nvml.Snapshot {
	if s.o.GPUs == nil {
		return nil
	}
	grace, cancel := context.WithTimeout(ctx, gpuGrace)
	defer cancel()
	select {
	case <-s.gpusKnown:
	case <-grace.Done():
	}
	got := make(chan *nvml.Snapshot, 1)
	s.post(func() { got <- s.gpus.Snapshot() })
	select {
	case snap := <-got:
		return snap
	case <-s.ctx.Done():
		return nil
	}
}

// overlap says why a replica's mask may not stand beside those that other pool files ask for; nil:
// it may. What runs by a former file does not count here: it will leave, and until then occupied
// keeps others off.
func (s *Supervisor) overlap(r *replica, mask []devices.Target) *registry.Failure {
	if len(mask) == 0 {
		return nil
	}
	var claims []devices.Claim
	for _, other := range s.masked() {
		if other == r.sibling() {
			continue // one place has one mask, on either side
		}
		wants := mask
		if other != r {
			if wants = s.wants(other); wants == nil {
				continue
			}
		}
		claims = append(claims, claim(other, wants, other.unit.phase.Exists() && sameMask(wants, other.gpu.targets)))
	}
	return devices.Overlaps(claims)[devices.Claimed{Pool: r.id.Pool, Replica: r.id.Index}]
}

// wants is the mask that a replica's file asks for, nil where none does or it is unknown.
func (s *Supervisor) wants(r *replica) []devices.Target {
	if r.wish.asks == reconcile.Unwanted {
		return nil
	}
	if r.prep.prepare == reconcile.Done {
		return r.prep.planned
	}
	mask, err := devices.Resolve(r.asked(), s.gpus.Snapshot())
	if err != nil {
		return nil // it reports its own mask
	}
	return mask
}

// occupied says which engine is still on a GPU of a mask that r is about to be given; nil: none is.
func (s *Supervisor) occupied(r *replica, mask []devices.Target) *registry.Failure {
	for _, other := range s.masked() {
		if other == r || other == r.sibling() || !other.unit.phase.Exists() || len(other.gpu.targets) == 0 ||
			len(mask) == 0 {
			continue
		}
		two := []devices.Claim{claim(r, mask, false), claim(other, other.gpu.targets, true)}
		if devices.Overlaps(two)[devices.Claimed{Pool: r.id.Pool, Replica: r.id.Index}] != nil {
			return registry.Fail(registry.CodeGPUUnavailable,
				fmt.Sprintf("%s still uses a GPU of the device mask: %s", other.id, other.view.reason),
				"It starts when that engine has stopped. Set shared = true in both pools to let them share the GPU.")
		}
	}
	return nil
}

// waitedFor reports whether another replica, of which nothing runs, is to have a GPU that r still
// has.
func (s *Supervisor) waitedFor(r *replica) bool {
	for _, other := range s.masked() {
		if other == r || other == r.sibling() || other.wish.asks == reconcile.Unwanted || other.unit.phase.Exists() {
			continue
		}
		two := []devices.Claim{claim(other, other.prep.planned, false), claim(r, r.gpu.targets, true)}
		if devices.Overlaps(two)[devices.Claimed{Pool: other.id.Pool, Replica: other.id.Index}] != nil {
			return true
		}
	}
	return false
}

func claim(r *replica, mask []devices.Target, running bool) devices.Claim {
	return devices.Claim{Pool: r.id.Pool, Replica: r.id.Index, Shared: r.pool().Shared, Running: running, Targets: mask}
}

func sameMask(a, b []devices.Target) bool {
	return slices.EqualFunc(a, b, func(x, y devices.Target) bool { return x.UUID == y.UUID })
}

// given is a mask as the unit gets it.
func given(mask []devices.Target) []render.Device {
	var out []render.Device
	for _, t := range mask {
		out = append(out, render.Device{Visible: t.UUID, Index: t.Index, Nodes: t.Nodes})
	}
	return out
}

// showGPUs publishes what is known of the GPUs. The registry makes events of changed healths, and
// logs them.
func (s *Supervisor) showGPUs() {
	if s.o.GPUs == nil {
		return
	}
	users := make(gpus.Users)
	for _, r := range s.masked() {
		users.Add(r.id.Pool, r.gpu.targets)
	}
	s.o.Registry.SetDevices(s.gpus.Show(users, time.Now()))
}

// poolDevices are the devices of all replicas of a pool, each once.
func (s *Supervisor) poolDevices(e *entry) []registry.PoolDevice {
	var out []registry.PoolDevice
	seen := make(map[string]bool)
	for _, r := range e.sorted() {
		for _, d := range s.gpus.PoolDevices(r.gpu.targets, time.Now()) {
			if !seen[d.UUID] {
				seen[d.UUID] = true
				out = append(out, d)
			}
		}
	}
	return out
}

// mask is the replica's device mask: full UUIDs once they are known, what the pool file says
// before.
func (r *replica) mask() []string {
	if len(r.gpu.targets) == 0 {
		return r.asked()
	}
	names := make([]string, len(r.gpu.targets))
	for i, t := range r.gpu.targets {
		names[i] = t.UUID
	}
	return names
}

// byUnitName returns the replica of a unit's name where there is one.
func (s *Supervisor) byUnitName(name string) *replica {
	id, ok := pool.ParseUnit(name)
	if !ok || s.entries[id.Pool] == nil {
		return nil
	}
	return s.entries[id.Pool].replicas[id]
}
