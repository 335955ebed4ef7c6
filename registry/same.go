package registry

import "slices"

// sameButHeartbeat reports whether two statuses of one pool differ only in when a probe last
// succeeded. Most writes are of that kind: each successful probe is one.
func sameButHeartbeat(a, b *Pool) bool {
	return samePoolState(a, b) && samePoolCounts(a, b) && samePoolOffer(a, b) &&
		slices.EqualFunc(a.Replicas, b.Replicas, sameReplica)
}

// samePoolOffer compares what the pool is and what it offers.
func samePoolOffer(a, b *Pool) bool {
	return a.ID == b.ID && a.Engine == b.Engine && a.EngineVersion == b.EngineVersion && a.ModelID == b.ModelID &&
		slices.Equal(a.DeviceMask, b.DeviceMask) && slices.EqualFunc(a.Devices, b.Devices, samePoolDevice) &&
		a.Wanted == b.Wanted && a.Source == b.Source && a.Runtime == b.Runtime && a.Ctx == b.Ctx &&
		slices.Equal(a.Workloads, b.Workloads) &&
		a.Model == b.Model && slices.Equal(a.Features, b.Features)
}

// samePoolState compares the pool's state and operators' requests.
func samePoolState(a, b *Pool) bool {
	return a.State == b.State && a.Live == b.Live && a.Ready == b.Ready && a.Draining == b.Draining &&
		a.Breaker == b.Breaker && a.NextStart.Equal(b.NextStart) &&
		sameValue(a.LastError, b.LastError) && sameValue(a.Drain, b.Drain) && sameValue(a.Override, b.Override) &&
		sameValue(a.Reload, b.Reload) && sameValue(a.Staging, b.Staging) && a.Correlation == b.Correlation
}

// samePoolCounts compares the counts of the pool.
func samePoolCounts(a, b *Pool) bool {
	return a.SlotsTotal == b.SlotsTotal && a.SlotsFree == b.SlotsFree && a.ActiveLeases == b.ActiveLeases &&
		sameValue(a.QueueDepth, b.QueueDepth) && SameWork(a.Work, b.Work) &&
		a.TokensPerS == b.TokensPerS && a.FirstTokenMS == b.FirstTokenMS &&
		a.RestartCount == b.RestartCount && a.RestartsSinceStable == b.RestartsSinceStable && a.Backoff == b.Backoff
}

func sameReplica(a, b Replica) bool {
	return sameReplicaState(a, b) && sameReplicaCounts(a, b) && sameReplicaRun(a, b)
}

// sameReplicaState compares the replica's state.
func sameReplicaState(a, b Replica) bool {
	return a.State == b.State && a.Reason == b.Reason && a.Live == b.Live && a.Ready == b.Ready &&
		a.Breaker == b.Breaker && sameValue(a.LastError, b.LastError) && a.Since.Equal(b.Since) &&
		a.Backoff == b.Backoff && a.NextStart.Equal(b.NextStart)
}

// sameReplicaCounts compares the counts of the replica.
func sameReplicaCounts(a, b Replica) bool {
	return a.SlotsTotal == b.SlotsTotal && a.SlotsFree == b.SlotsFree && a.ActiveLeases == b.ActiveLeases &&
		sameValue(a.QueueDepth, b.QueueDepth) && SameWork(a.Work, b.Work) &&
		a.RestartCount == b.RestartCount && a.RestartsSinceStable == b.RestartsSinceStable &&
		slices.Equal(a.RefusedAnswers, b.RefusedAnswers) &&
		slices.Equal(a.Unanswered, b.Unanswered) && slices.Equal(a.GPULayers, b.GPULayers) &&
		sameValue(a.Perf, b.Perf) &&
		a.Asleep == b.Asleep && a.Ctx == b.Ctx && a.CtxAsked == b.CtxAsked && a.DiskBytes == b.DiskBytes &&
		sameValue(a.Need, b.Need)
}

// sameReplicaRun compares which process the replica is, and what it runs.
func sameReplicaRun(a, b Replica) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Unit == b.Unit && a.Endpoint == b.Endpoint && a.PID == b.PID &&
		a.InvocationID == b.InvocationID && a.SpecHash == b.SpecHash && slices.Equal(a.DeviceMask, b.DeviceMask) &&
		a.Engine == b.Engine && a.EngineVersion == b.EngineVersion && a.ModelID == b.ModelID &&
		a.ModelPath == b.ModelPath && a.Provisioning == b.Provisioning &&
		slices.Equal(a.Flags, b.Flags) && (a.Flags == nil) == (b.Flags == nil)
}

func samePoolDevice(a, b PoolDevice) bool {
	return a.ID == b.ID && a.UUID == b.UUID && a.Name == b.Name && a.ComputeCapability == b.ComputeCapability &&
		sameValue(a.Memory, b.Memory) && a.Health == b.Health && a.Old == b.Old
}

// sameValue reports whether both are nil, or both point to equal values. A Failure's Ending is
// compared by its pointer: it is never changed after it was published.
func sameValue[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
