package registry

import (
	"log/slog"
	"slices"
	"strings"
)

// LogFields are the fields of a log line about the pool, as far as they are known.
func (p *Pool) LogFields() []slog.Attr {
	return p.logFields(p.EngineVersion, p.DeviceMask, p.RestartCount, p.Backoff.Milliseconds())
}

// ReplicaLogFields are those of a line about one of the pool's replicas, which has last_error and
// correlation_id too. Without such a replica they are those of the pool.
func (p *Pool) ReplicaLogFields(id string) []slog.Attr {
	attrs, last := p.LogFields(), p.LastError
	if at := slices.IndexFunc(p.Replicas, func(r Replica) bool { return r.ID == id }); at >= 0 {
		r := &p.Replicas[at]
		attrs, last = p.logFields(r.EngineVersion, r.DeviceMask, r.RestartCount, r.Backoff.Milliseconds()), r.LastError
	}
	if last != nil {
		attrs = append(attrs, slog.String("last_error", last.Error()))
	}
	if p.Correlation != "" {
		attrs = append(attrs, slog.String("correlation_id", p.Correlation))
	}
	return attrs
}

func (p *Pool) logFields(version string, mask []string, restarts int, backoffMS int64) []slog.Attr {
	attrs := []slog.Attr{slog.String("pool_id", p.ID)}
	for _, a := range []slog.Attr{
		slog.String("engine", p.Engine), slog.String("engine_version", version), slog.String("model_id", p.ModelID),
		slog.String("device_mask", strings.Join(mask, ",")),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return append(attrs, slog.Int("restart_count", restarts), slog.Int64("backoff_ms", backoffMS))
}
