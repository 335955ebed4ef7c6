package registry

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pool-managerd/pool-managerd/registry/catalogue"
)

// LogEvents returns an observer that logs one line for each change of a pool's ready and of a GPU's
// health. The writers log changes of replicas and recorded events themselves.
func LogEvents(log *slog.Logger) Observer {
	return func(e Event, p *Pool) {
		if e.OfDevice() {
			logDevice(log, e)
			return
		}
		if e.ReplicaID != "" || e.Kind != KindReady {
			return
		}
		level, to, text, id := slog.LevelInfo, "ready", "is ready", catalogue.PoolReady
		if !e.Ready {
			to, text, id = "unready", "is not ready", catalogue.PoolUnready
			if e.Failure != nil {
				level = slog.LevelWarn
			}
		}
		attrs := append(p.LogFields(), slog.String(catalogue.Key, id), slog.String("to", to),
			slog.String("state", string(e.State)),
			slog.String("reason", string(e.Reason)))
		if e.Failure != nil {
			attrs = append(attrs, slog.String("last_error", e.Failure.Error()), slog.String("hint", e.Failure.Hint))
		}
		if e.Correlation != "" {
			attrs = append(attrs, slog.String("correlation_id", e.Correlation))
		}
		log.LogAttrs(context.Background(), level, fmt.Sprintf("pool %s %s: %s", e.PoolID, text, e.Cause), attrs...)
	}
}

// logDevice logs a GPU's event. Stale facts are not the GPU's fault: no warning.
func logDevice(log *slog.Logger, e Event) {
	level := slog.LevelInfo
	attrs := []slog.Attr{slog.String("device", e.Device), slog.String("health", string(e.Health)),
		slog.String("was", string(e.Was))}
	if e.Failure != nil {
		if e.Health != HealthUnknown {
			level = slog.LevelWarn
		}
		attrs = append(attrs, slog.String("last_error", e.Failure.Error()), slog.String("hint", e.Failure.Hint))
	}
	switch e.Health {
	case HealthOK:
		attrs = append(attrs, slog.String(catalogue.Key, catalogue.GPUBack))
	case HealthUnknown:
	default:
		attrs = append(attrs, slog.String(catalogue.Key, catalogue.GPUUnusable))
	}
	log.LogAttrs(context.Background(), level, fmt.Sprintf("%s %s: %s", e.Title, e.Health.Clause(), e.Cause), attrs...)
}
