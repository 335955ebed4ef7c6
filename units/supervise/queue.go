package supervise

import (
	"context"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// queue asks the engine how many requests wait inside it; nil where it does not count them, or does
// not answer now.
func (w *watch) queue(ctx context.Context) *int {
	var n int
	err := w.ask(ctx, bounds.OfQueue, w.adapter.QueuePath(), func(body []byte) (err error) {
		n, err = w.adapter.Queue(body)
		return err
	})
	if err != nil {
		return nil
	}
	return &n
}

// queueDepth is what the engine that runs now said last of its queue; nil: not known.
func (r *replica) queueDepth() *int {
	if r.run.watch == nil {
		return nil
	}
	return r.run.watch.queued
}

// offers is the context of one request and what the engine can be asked for, by the version that it
// runs or should run.
func (r *replica) offers() (ctx int, workloads []string) {
	p := r.pool()
	if a, ok := r.adapter(); ok {
		workloads = a.Workloads(p)
	}
	return p.Ctx, workloads
}
