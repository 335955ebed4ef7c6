package registry

// Work is what an engine works on, by its own figures. A nil field is not known.
type Work struct {
	InProgress     *int     // requests
	TokensInFlight *int     // tokens of these requests that it keeps
	KVCacheUsage   *float64 // share of its KV cache that they use, 0 to 1
}

// SameWork reports whether both are equal.
func SameWork(a, b Work) bool {
	return sameValue(a.InProgress, b.InProgress) && sameValue(a.TokensInFlight, b.TokensInFlight) &&
		sameValue(a.KVCacheUsage, b.KVCacheUsage)
}

// Counted is what an engine has counted since it was last asked. A nil field is one that it does
// not count.
type Counted struct {
	TokensIn, TokensOut *uint64
	FirstToken, Decode  *Latency
	DecodeMS            *float64 // in which tokens were generated, of all requests, where Decode is nil
}

// Latency is a histogram of one phase of requests.
type Latency struct {
	Buckets []uint64 // requests that took at most each of the bounds, in milliseconds
	Count   uint64
	SumMS   float64
}

func aggregateWork(p *Pool, _ *Replica) {
	p.Work.InProgress = sumKnown(p.Replicas, func(r Replica) *int { return r.Work.InProgress })
	p.Work.TokensInFlight = sumKnown(p.Replicas, func(r Replica) *int { return r.Work.TokensInFlight })
}

func aggregateCache(p *Pool, _ *Replica) {
	total, known := 0.0, 0
	for _, r := range p.Replicas {
		if r.Ready && r.Work.KVCacheUsage != nil {
			total, known = total+*r.Work.KVCacheUsage, known+1
		}
	}
	if p.Work.KVCacheUsage = nil; known > 0 {
		mean := total / float64(known)
		p.Work.KVCacheUsage = &mean
	}
}

// sumKnown adds up what is known of the ready replicas; nil if nothing is.
func sumKnown(replicas []Replica, of func(Replica) *int) *int {
	var sum *int
	for _, r := range replicas {
		n := of(r)
		if !r.Ready || n == nil {
			continue
		}
		if sum == nil {
			sum = new(int)
		}
		*sum += *n
	}
	return sum
}
