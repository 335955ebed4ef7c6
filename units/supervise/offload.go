package supervise

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// Bounds of the reading of what a run has put on its GPUs: a draft model has a line of its own.
const (
	offloadWithin = 5 * time.Second
	offloadLines  = 16
)

// readsOffload reports whether the log of a replica's engine says how many layers are on its GPUs.
func (s *Supervisor) readsOffload(r *replica) bool {
	kind, _ := r.serves()
	return s.o.Journal != nil && len(r.mask()) > 0 && engine.Offloads(kind)
}

// offloads reads from a run's log how many layers of each model are on the GPUs; nil where the log
// does not report it, or cannot be read: it only explains.
func (s *Supervisor) offloads(ctx context.Context, kind, unit, run string) (of []engine.Offload) {
	ctx, cancel := context.WithTimeout(ctx, offloadWithin)
	defer cancel()
	entries, err := s.o.Journal.Read(ctx, systemd.JournalQuery{Grep: engine.OffloadGrep, Fields: []string{"MESSAGE"},
		Matches: []string{invocationField + "=" + run, unitField + "=" + unit}}, offloadLines)
	if err != nil {
		s.o.Log.Warn("could not read from the engine's log how much of its model is on the GPU",
			append(aboutUnit(unit), "err", err)...)
	}
	for _, e := range entries {
		if o, ok := engine.Offloaded(kind, e.Message()); ok {
			of = append(of, o)
		}
	}
	return of
}

// noteOffload takes what a run has put on its GPUs, and logs a part that the pool did not ask for.
func (s *Supervisor) noteOffload(r *replica, of []engine.Offload) {
	r.run.offload = of
	asked := engine.AskedLayers(r.pool())
	for i, o := range of {
		if !asked.Satisfied(i, o) {
			s.o.Log.Warn("the engine left a part of its model to the CPU: "+layersText(of), s.about(r)...)
			return
		}
	}
}

// layersText formats the numbers of all models.
func layersText(of []engine.Offload) string {
	texts := make([]string, len(of))
	for i, o := range of {
		texts[i] = fmt.Sprintf("%d of %d", o.On, o.Of)
	}
	return strings.Join(texts, " and ") + " layers are on the GPU"
}

// gpuLayers is what the engine that runs now has put on its GPUs.
func (r *replica) gpuLayers() []registry.Layers {
	if len(r.run.offload) == 0 {
		return nil
	}
	layers := make([]registry.Layers, len(r.run.offload))
	for i, o := range r.run.offload {
		layers[i] = registry.Layers{OnGPU: o.On, Of: o.Of}
	}
	return layers
}

// partly is what the reason of a state adds of an engine that is partly on the CPU.
func (r *replica) partly() string {
	for _, o := range r.run.offload {
		if !o.Whole() {
			return "; " + layersText(r.run.offload)
		}
	}
	return ""
}
