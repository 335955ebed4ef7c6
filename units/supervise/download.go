package supervise

import (
	"cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// downloading takes the progress of a download that the stage under way waits for.
func (s *Supervisor) downloading(r *replica, try int, p pool.Staging) {
	if !r.prep.current(try) || r.prep.stage != reconcile.Running {
		return
	}
	r.prep.download = &registry.Staging{
		Bytes: p.Bytes,
		Total: p.Total,
		Rate:  p.Rate,
		File:  p.File,
		Note:  p.Note,
		Until: p.Until,
	}
	if e, ref := r.entry, cmp.Or(p.Ref, string(r.wish.pool.Model)); e.fetching != ref {
		s.downloaded(r) // the image, where its model follows
		e.fetching = ref
		s.noteDownload(r, "the download of "+ref+" has begun")
	}
	s.show(r.entry)
}

// downloaded records, once for all replicas, that the download has ended with all of it.
func (s *Supervisor) downloaded(r *replica) {
	if e := r.entry; r.prep.download != nil && e.fetching != "" {
		s.noteDownload(r, e.fetching+" is downloaded")
		e.fetching = ""
	}
}

func (s *Supervisor) noteDownload(r *replica, cause string) {
	s.o.Registry.Note(
		registry.Event{Kind: registry.KindFetch, PoolID: r.id.Pool, State: r.entry.last.State, Cause: cause},
	)
	s.o.Log.Info(r.id.Pool+": "+cause, s.about(r)...)
}

// showDownload publishes a download that the pool, or a reload of it, waits for.
func (e *entry) showDownload(p *registry.Pool) {
	for _, r := range e.sorted() {
		if r.prep.download != nil && r.prep.stage == reconcile.Running {
			p.Staging = r.prep.download
			return
		}
	}
}

// stagingReason is why the replica is in the state staging while its model is downloaded.
func (r *replica) stagingReason() string { return "staging " + r.prep.download.String() }
