package registry

import (
	"slices"
	"time"
)

// aggregateRow is one field of a pool and how it is computed from the replicas.
type aggregateRow struct {
	Field string
	Rule  string
	apply func(p *Pool, best *Replica)
}

// aggregateTable has every rule; a test prints it into the docs. Rows are applied in order. best is
// the replica with the best state (the first of equals), nil for a pool without replicas.
var aggregateTable = []aggregateRow{
	{"state", "that of the best replica; without replicas `refused` or `invalid` by the pool's own error, `staging` if a pool file asks for it, else `stopped`", aggregateState},
	{"draining", "an operator drains the pool, or its best replica is draining", func(p *Pool, _ *Replica) {
		p.Draining = p.Draining || p.State == StateDraining
		if p.Draining && rankOf(p.State) < rankOf(StateDraining) {
			p.State = StateDraining
		}
	}},
	{"ready", "a replica is ready, and the pool is not draining", func(p *Pool, _ *Replica) {
		p.Ready = !p.Draining && slices.ContainsFunc(p.Replicas, func(r Replica) bool { return r.Ready })
	}},
	{"live", "a replica is live", func(p *Pool, _ *Replica) {
		p.Live = slices.ContainsFunc(p.Replicas, func(r Replica) bool { return r.Live })
	}},
	{"slots_total", "sum over the replicas", func(p *Pool, _ *Replica) {
		p.SlotsTotal = sum(p.Replicas, func(r Replica) int { return r.SlotsTotal })
	}},
	{"slots_free", "sum over the ready replicas of `slots_total` less their leases; 0 while the pool is draining", aggregateFree},
	{"active_leases", "sum over the replicas", aggregateLeases},
	{"metrics.queue_depth", "sum over the ready replicas whose engine reports it; null if none does", aggregateQueue},
	{"metrics.tokens_in_flight", "sum over the ready replicas whose engine reports it; null if none does", aggregateWork},
	{"metrics.kv_cache_usage_ratio", "mean over the ready replicas whose engine reports it; null if none does", aggregateCache},
	{"perf_tokens_per_s", "the lowest of the ready replicas of which it is known; null if it is of none", aggregateTokensPerS},
	{"first_token_ms", "the highest of the ready replicas of which it is known; null if it is of none", aggregateFirstToken},
	{"restart_count", "sum over the replicas", func(p *Pool, _ *Replica) {
		p.RestartCount = sum(p.Replicas, func(r Replica) int { return r.RestartCount })
	}},
	{"restarts_since_stable", "sum over the replicas", func(p *Pool, _ *Replica) {
		p.RestartsSinceStable = sum(p.Replicas, func(r Replica) int { return r.RestartsSinceStable })
	}},
	{"backoff_ms", "the longest of the replicas", func(p *Pool, _ *Replica) {
		p.Backoff = 0
		for _, r := range p.Replicas {
			p.Backoff = max(p.Backoff, r.Backoff)
		}
	}},
	{"next_restart_ms", "the earliest of the waiting replicas", func(p *Pool, _ *Replica) {
		p.NextStart = time.Time{}
		for _, r := range p.Replicas {
			if !r.NextStart.IsZero() && (p.NextStart.IsZero() || r.NextStart.Before(p.NextStart)) {
				p.NextStart = r.NextStart
			}
		}
	}},
	{"breaker", "`open` if the breaker of any replica is open, else `half-open` if any is, else `closed`",
		func(p *Pool, _ *Replica) {
			p.Breaker = ""
			for _, r := range p.Replicas {
				if breakerRank(r.Breaker) > breakerRank(p.Breaker) {
					p.Breaker = r.Breaker
				}
			}
		}},
	{"last_heartbeat_ms", "the newest of the replicas", aggregateHeartbeat},
	{"last_error", "the pool's own, if it serves or no run of its engine ended; else that of the replica whose state changed last", aggregateError},
	{"engine_version", "that of the best replica, else the first known one", aggregateVersion},
	{"device_mask", "the devices of all replicas, each once, in order", func(p *Pool, _ *Replica) {
		p.DeviceMask = nil
		for _, r := range p.Replicas {
			for _, d := range r.DeviceMask {
				if !slices.Contains(p.DeviceMask, d) {
					p.DeviceMask = append(p.DeviceMask, d)
				}
			}
		}
	}},
}

// breakerRank orders breakers by how far they keep an engine from running.
func breakerRank(b string) int { return slices.Index([]string{"", "closed", "half-open", "open"}, b) }

// Aggregate returns the pool with every field that follows from its replicas filled in. It reads
// ID, Engine, ModelID, Wanted, Replicas, the pool's own LastError (a wrong file) and Draining (the
// pool as a whole was asked to drain), and derives the rest. It is pure: p's slices are not
// changed.
func Aggregate(p Pool) Pool {
	p.Replicas = slices.Clone(p.Replicas)
	var best *Replica
	for i := range p.Replicas {
		r := &p.Replicas[i]
		r.SlotsFree = freeSlots(r)
		if best == nil || rankOf(r.State) < rankOf(best.State) {
			best = r
		}
	}
	for _, row := range aggregateTable {
		row.apply(&p, best)
	}
	return p
}

func aggregateState(p *Pool, best *Replica) {
	switch {
	case best != nil:
		p.State = best.State
	case p.LastError != nil && p.LastError.Code == CodePolicyDenied:
		p.State = StateRefused
	case p.LastError != nil:
		p.State = StateInvalid
	case p.Wanted:
		p.State = StateStaging
	default:
		p.State = StateStopped
	}
}

// freeSlots returns how many requests a replica can take now: its slots less its leases, and 0
// while it is not ready.
func freeSlots(r *Replica) int {
	if !r.Ready {
		return 0
	}
	return max(r.SlotsTotal-r.ActiveLeases, 0)
}

func aggregateFree(p *Pool, _ *Replica) {
	p.SlotsFree = 0
	if !p.Draining {
		p.SlotsFree = sum(p.Replicas, func(r Replica) int { return r.SlotsFree })
	}
}

func aggregateHeartbeat(p *Pool, _ *Replica) {
	p.LastHeartbeat = time.Time{}
	for _, r := range p.Replicas {
		if r.LastHeartbeat.After(p.LastHeartbeat) {
			p.LastHeartbeat = r.LastHeartbeat
		}
	}
}

func aggregateLeases(p *Pool, _ *Replica) {
	p.ActiveLeases = sum(p.Replicas, func(r Replica) int { return r.ActiveLeases })
}

func aggregateQueue(p *Pool, _ *Replica) {
	p.QueueDepth = sumKnown(p.Replicas, func(r Replica) *int { return r.QueueDepth })
}

// aggregateError prefers the pool's own failure, except for a pool that stopped serving when a run
// of its engine ended: an invalid file leaves the former version in force and is not the cause.
func aggregateError(p *Pool, _ *Replica) {
	counts := func(r Replica) bool { return r.LastError != nil }
	if p.LastError != nil {
		serves := slices.ContainsFunc(p.Replicas, func(r Replica) bool { return r.Ready })
		ended := func(r Replica) bool { return r.LastError != nil && r.LastError.Ending != nil }
		if serves || !slices.ContainsFunc(p.Replicas, ended) {
			return
		}
		counts = ended
	}
	var latest *Failure
	var newest time.Time
	for _, r := range p.Replicas {
		if counts(r) && (latest == nil || r.Since.After(newest)) {
			latest, newest = r.LastError, r.Since
		}
	}
	p.LastError = latest
}

func aggregateVersion(p *Pool, best *Replica) {
	p.EngineVersion = ""
	if best != nil {
		p.EngineVersion = best.EngineVersion
	}
	for _, r := range p.Replicas {
		if p.EngineVersion == "" {
			p.EngineVersion = r.EngineVersion
		}
	}
}

func sum(replicas []Replica, of func(Replica) int) int {
	n := 0
	for _, r := range replicas {
		n += of(r)
	}
	return n
}
