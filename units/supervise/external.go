package supervise

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// An external engine is one that another program runs. It passes the same states as any other, with
// a status that is made up here in place of PID 1's: "started" means that it is used, "stopped"
// that it is not. Nothing about it is asked of PID 1.

// external reports whether a pool's engine is run by another program.
func external(p pool.Pool) bool { return p.Provisioning.Mode == pool.ModeExternal }

func (r *replica) external() bool { return r.wish.known && external(r.wish.pool) }

// prepareExternal is all that there is to prepare: where the engine serves.
func (s *Supervisor) prepareExternal(r *replica) {
	r.prep.stageDone(pool.Staged{})
	r.prep.external(externalHash(r.wish.pool))
	r.updateMask()
}

// externalHash stands for the hash of a unit: another URL is another engine.
func externalHash(p pool.Pool) string {
	sum := sha256.Sum256([]byte(p.Engine + " " + p.Provisioning.URL))
	return hex.EncodeToString(sum[:6]) + "-external"
}

// useExternal begins to use the engine: it is probed, and leased once it answers.
func (s *Supervisor) useExternal(r *replica) {
	r.unit.endpoint = r.wish.pool.Provisioning.URL
	s.observe(r, systemd.Status{
		Name: r.unit.name, LoadState: "loaded", ActiveState: "active", SubState: "external", Result: "success",
		InvocationID: externalRun(r.wish.pool),
		LogFields: map[string]string{
			render.FieldSpecHash: externalHash(r.wish.pool), render.FieldEngine: r.wish.pool.Engine, render.FieldModel: string(r.wish.pool.Model),
		},
	})
}

// takeUpExternal goes on with the drains of external engines that a former manager had begun: what
// is held of them may finish.
func (s *Supervisor) takeUpExternal() {
	for _, e := range s.entries {
		for _, r := range e.replicas {
			if r.external() && r.wish.parked && r.unit.phase == reconcile.Absent && s.leasesOf(r) > 0 {
				s.useExternal(r)
			}
		}
	}
}

// externalRun names the engine's run where no one reports which it is. It is the same in each
// manager, so that leases outlive them.
func externalRun(p pool.Pool) string {
	sum := sha256.Sum256([]byte("run of " + p.Provisioning.URL))
	return hex.EncodeToString(sum[:16])
}

// actExternal carries a decision out for an external engine. It reports whether it did.
func (s *Supervisor) actExternal(r *replica, a reconcile.Action) bool {
	if !r.external() && r.unit.status.SubState != "external" {
		return false
	}
	switch a {
	case reconcile.Stage, reconcile.Prepare:
		if !r.external() {
			return false // it becomes one that is started here
		}
		s.prepareExternal(r)
	case reconcile.Start:
		if !r.external() {
			return false
		}
		s.useExternal(r)
	case reconcile.Stop, reconcile.Clear:
		if r.unit.status.SubState != "external" {
			return false
		}
		s.closeIdle(r)
		s.observe(r, systemd.Status{Name: r.unit.name})
	case reconcile.Kill, reconcile.SetLimits:
		r.run.fault = nil // its operator must handle it
		r.unit.spec.Limits = r.prep.spec.Limits
	default:
		return false
	}
	return true
}
