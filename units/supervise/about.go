package supervise

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// What log lines carry: about(replica) and entry.about() have the fields that every line about a
// pool has where they are known, entry.aboutReload those of a reload beside them. No other line of
// this package names a pool.

// about is what every log line of a replica carries.
func (s *Supervisor) about(r *replica) []any {
	kind, model := r.serves()
	attrs := []any{"pool_id", r.id.Pool, "replica_id", r.id.Name(), "engine", kind, "model_id", model}
	if v := r.version(); v != "" {
		attrs = append(attrs, "engine_version", v)
	}
	if mask := r.mask(); len(mask) > 0 {
		attrs = append(attrs, "device_mask", strings.Join(mask, ","))
	}
	attrs = append(attrs, "restart_count", r.restarts())
	if d := r.backoff(); d > 0 {
		attrs = append(attrs, "backoff_ms", d.Milliseconds())
	}
	if r.view.lastErr != nil {
		attrs = append(attrs, "last_error", r.view.lastErr.Error())
	}
	return caused(attrs, r.entry.correlation())
}

// about is what every log line of a pool as a whole carries: the status as it was last published,
// with the engine and model of its file where that is newer.
func (e *entry) about() []any {
	p := *e.last
	if e.known {
		p.Engine, p.ModelID = e.desired.Engine, string(e.desired.Model)
	}
	attrs := make([]any, 0, 16)
	for _, a := range p.LogFields() {
		attrs = append(attrs, a.Key, a.Value.Any())
	}
	return caused(attrs, e.correlation())
}

// aboutUnit names the replica of an engine's unit, and a unit of another program alone. The log's
// handler adds the other fields: the line is written beside the loop, or may be of no pool.
func aboutUnit(name string) []any {
	if id, ok := pool.ParseUnit(name); ok {
		return []any{"pool_id", id.Pool, "replica_id", id.Name(), "unit", name}
	}
	return []any{"unit", name}
}

// caused adds the id of the request that caused a line, if one did.
func caused(attrs []any, correlation string) []any {
	if correlation == "" {
		return attrs
	}
	return withValues(attrs, "correlation_id", correlation)
}

// correlation is the id of the request that the reload, drain or preload in progress is for.
func (e *entry) correlation() string {
	switch i := e.intent; {
	case i.Reload != nil:
		return i.Reload.Correlation
	case i.Drain != nil:
		return i.Drain.Correlation
	case i.Preload != nil && !i.Preload.Ready:
		return i.Preload.Correlation
	}
	return ""
}

// asker is who sent a request, and the request's id.
type asker struct{ name, correlation string }

func askerOf(p *keep.Preload) asker { return asker{p.By, p.Correlation} }
