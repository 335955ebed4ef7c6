// Package poollog is what every line of the log about a pool passes: it adds the fields that such a
// line has, and bounds how many lines pools may cause.
//
// It owns the rules for both. It must not know who writes a line, and how lines are stored.
package poollog

import (
	"context"
	"log/slog"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
)

// Handler is a slog.Handler. A line with a pool_id gets the other fields of a line about a pool, as
// the registry has them. One with restart_count has them already: its writer knows more than was
// published.
type Handler struct {
	to       slog.Handler
	registry *registry.Registry
	limit    *limit
	attrs    []slog.Attr // of the logger, which its lines have too
	grouped  bool        // the names of a line's fields have a prefix: it is passed on as it is
}

// New returns a handler that passes lines on. Its method Run reports what was left out.
func New(to slog.Handler, r *registry.Registry) *Handler {
	return &Handler{to: to, registry: r, limit: newLimit()}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.to, next.attrs = h.to.WithAttrs(attrs), append(slices.Clone(h.attrs), attrs...)
	return &next
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	next := *h
	next.to, next.grouped = h.to.WithGroup(name), true
	return &next
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, line slog.Record) error {
	has := h.fields(line)
	id, ofPool := has["pool_id"]
	if !ofPool || h.grouped {
		return h.to.Handle(ctx, line)
	}
	_, event := has[catalogue.Key]
	_, asked := has["identity"]
	if line.Level >= slog.LevelInfo && !asked && !h.limit.take(id.String(), event) {
		return nil
	}
	p, found := h.registry.Find(id.String())
	if _, complete := has["restart_count"]; complete || !found {
		return h.to.Handle(ctx, line)
	}
	line = line.Clone() // its attributes may be shared with another handler
	for _, a := range p.ReplicaLogFields(has["replica_id"].String()) {
		if _, there := has[a.Key]; !there {
			line.AddAttrs(a)
		}
	}
	return h.to.Handle(ctx, line)
}

// fields are those of a line and of its logger, by name.
func (h *Handler) fields(line slog.Record) map[string]slog.Value {
	has := make(map[string]slog.Value, len(h.attrs)+line.NumAttrs())
	for _, a := range h.attrs {
		has[a.Key] = a.Value
	}
	line.Attrs(func(a slog.Attr) bool {
		has[a.Key] = a.Value
		return true
	})
	return has
}
