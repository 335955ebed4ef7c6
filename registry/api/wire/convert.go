package wire

import "github.com/pool-managerd/pool-managerd/registry"

// ListOf returns the answer of GET /v1/pools.
func ListOf(s *registry.Snapshot) PoolList {
	l := PoolList{Pools: make([]Pool, 0, len(s.Pools)), Problems: problemsOf(s.Problems)}
	for _, p := range s.Pools {
		l.Pools = append(l.Pools, PoolOf(p))
	}
	return l
}

// FilesOf converts the problems of the configuration.
func FilesOf(problems []registry.Problem) Files { return Files{Problems: problemsOf(problems)} }

func problemsOf(list []registry.Problem) []Problem {
	out := make([]Problem, 0, len(list))
	for _, p := range list {
		out = append(out, Problem{
			File: p.File, PoolID: optional(p.PoolID),
			Error: string(registry.CodeConfigInvalid) + ": " + p.Text, Hint: optional(p.Hint),
		})
	}
	return out
}

// PoolOf returns a pool's summary.
func PoolOf(p *registry.Pool) Pool {
	text, hint := failure(p.LastError)
	has := capacityOf(p.Devices)
	w := Pool{
		ID: p.ID, Engine: p.Engine, EngineVersion: optional(p.EngineVersion), ModelID: optional(p.ModelID),
		DeviceMask: list(p.DeviceMask), Devices: make([]Device, 0, len(p.Devices)),
		VRAMTotalBytes: has.total, VRAMFreeBytes: has.free,
		SlotsTotal: p.SlotsTotal, SlotsFree: p.SlotsFree, ActiveLeases: p.ActiveLeases,
		Live: p.Live, Ready: p.Ready, Draining: p.Draining, State: string(p.State), Wanted: p.Wanted,
		Source:    optional(p.Source),
		Runtime:   optional(p.Runtime),
		LastError: text, Hint: hint, Details: endingOf(p.LastError), LastHeartbeatMS: moment(p.LastHeartbeat),
		RestartCount: p.RestartCount, RestartsSinceStable: p.RestartsSinceStable,
		BackoffMS: p.Backoff.Milliseconds(), Breaker: optional(p.Breaker), NextRestartMS: moment(p.NextStart),
		Supports:       Supports{Quantizations: some(p.Model.Quantization), Features: list(p.Features)},
		Model:          modelOf(p.Model),
		PerfTokensPerS: optional(p.TokensPerS), FirstTokenMS: optional(p.FirstTokenMS),
		Replicas: make([]Replica, 0, len(p.Replicas)),
	}
	if d := p.Drain; d != nil {
		w.Drain = &Drain{SinceMS: d.Since.UnixMilli(), UntilMS: d.Until.UnixMilli(), Restart: d.Restart}
	}
	if o := p.Override; o != nil {
		w.Override = &Override{ModelID: o.ModelID, Digest: optional(o.Digest), SinceMS: o.Since.UnixMilli()}
	}
	if r := p.Reload; r != nil {
		w.Reload = &Reload{ModelID: r.ModelID, Phase: r.Phase, SinceMS: r.Since.UnixMilli(), RollingBack: r.Back}
	}
	if p.Staging != nil {
		w.Staging = StagingOf(*p.Staging)
	}
	for _, d := range p.Devices {
		w.Devices = append(w.Devices, deviceOf(d))
	}
	for i := range p.Replicas {
		w.Replicas = append(w.Replicas, replicaOf(&p.Replicas[i]))
	}
	return w
}

// StagingOf converts the progress of a download.
func StagingOf(s registry.Staging) *Staging {
	out := &Staging{Bytes: s.Bytes, Total: optional(s.Total), Rate: optional(s.Rate), File: optional(s.File),
		Note: optional(s.Note), Next: moment(s.Until)}
	if left, ok := s.Left(); ok && s.Note == "" {
		ms := left.Milliseconds()
		out.Left = &ms
	}
	return out
}

// Progress is a download as people read it: "41 %, 310 MB/s, 2 min left".
func (s Staging) Progress() string {
	r := registry.Staging{Bytes: s.Bytes, Note: text(s.Note)}
	if s.Total != nil {
		r.Total = *s.Total
	}
	if s.Rate != nil {
		r.Rate = *s.Rate
	}
	return r.String()
}

func replicaOf(r *registry.Replica) Replica {
	text, hint := failure(r.LastError)
	return Replica{
		ID: r.ID, State: string(r.State), Reason: r.Reason, Live: r.Live, Ready: r.Ready, Unit: r.Unit,
		Endpoint: optional(r.Endpoint), PID: optional(r.PID), InvocationID: optional(r.InvocationID),
		SpecHash: optional(r.SpecHash), DeviceMask: list(r.DeviceMask), EngineVersion: optional(r.EngineVersion),
		SlotsTotal: r.SlotsTotal, SlotsFree: r.SlotsFree, ActiveLeases: r.ActiveLeases, RestartCount: r.RestartCount,
		RestartsSinceStable: r.RestartsSinceStable, RefusedAnswers: r.RefusedAnswers,
		Unanswered: r.Unanswered, GPULayers: layersOf(r.GPULayers), Asleep: r.Asleep, Ctx: r.Ctx, CtxAsked: r.CtxAsked,
		DiskBytes: r.DiskBytes, MemoryNeed: needOf(r.Need), Performance: performanceOf(r.Perf),
		BackoffMS: r.Backoff.Milliseconds(), Breaker: optional(r.Breaker), NextRestartMS: moment(r.NextStart),
		LastError: text, Hint: hint, Details: endingOf(r.LastError),
		SinceMS: moment(r.Since), LastHeartbeatMS: moment(r.LastHeartbeat),
	}
}

func needOf(n *registry.Need) *Need {
	if n == nil {
		return nil
	}
	return &Need{Source: n.Source, VRAM: n.VRAM, Host: n.Host, RaisedAfter: optional(string(n.RaisedAfter)),
		RaisedUntilMS: moment(n.RaisedUntil)}
}

func layersOf(of []registry.Layers) []Layers {
	var all []Layers
	for _, l := range of {
		all = append(all, Layers(l))
	}
	return all
}

// HealthOf returns the answer of GET /v1/pools/{id}/health.
func HealthOf(p *registry.Pool) PoolHealth {
	text, hint := failure(p.LastError)
	has := capacityOf(p.Devices)
	return PoolHealth{
		Live: p.Live, Ready: p.Ready, Draining: p.Draining, LastError: text, Hint: hint,
		EngineVersion: optional(p.EngineVersion), ModelID: optional(p.ModelID),
		SlotsTotal: p.SlotsTotal, SlotsFree: p.SlotsFree, ActiveLeases: p.ActiveLeases,
		VRAMTotalBytes: has.total, VRAMFreeBytes: has.free, ComputeCapability: has.compute,
		DeviceMask: list(p.DeviceMask), LastHeartbeatMS: moment(p.LastHeartbeat),
		Metrics: PoolMetrics{QueueDepth: p.QueueDepth, TokensInFlight: p.Work.TokensInFlight,
			KVCacheUsageRatio: p.Work.KVCacheUsage},
	}
}

// StatusOf returns the answer of GET /pools/{id}/status.
func StatusOf(p *registry.Pool) PoolStatus {
	return PoolStatus{
		PoolID: p.ID, Live: p.Live, Ready: p.Ready, ActiveLeases: p.ActiveLeases,
		SlotsTotal: p.SlotsTotal, SlotsFree: p.SlotsFree, EngineVersion: optional(p.EngineVersion),
	}
}
