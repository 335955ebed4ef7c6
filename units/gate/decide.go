package gate

import "time"

// Answer is the result of one request to the engine's endpoint.
type Answer int

// The answers.
const (
	Silent  Answer = iota // no listener, or no response
	Loading               // a response that does not mean healthy
	Healthy               // the expected response
	Foreign               // another user's process listens on the port
)

// Sample is one observation of the engine. Counters grow, except that a process's share disappears
// when it ends.
type Sample struct {
	At     time.Duration // since the gate began
	Answer Answer
	Gone   bool // the main process has ended

	CPU    time.Duration // CPU time of the engine's processes
	IO     uint64        // bytes read and written, as far as the kernel counts them
	Faults uint64        // major page faults, by which a mapped model is read
	Memory uint64        // resident bytes
	Lines  uint64        // log lines
}

// Verdict is what the gate decides.
type Verdict int

// The verdicts.
const (
	Wait Verdict = iota
	Ready
	EngineGone
	Stalled
	ForeignPort
)

// What counts as progress. An idle engine uses a little CPU time to answer the gate's requests, so
// progress is a share of a core, with a minimum for short intervals.
const (
	cpuShare = 0.01
	cpuFloor = 50 * time.Millisecond
	ioFloor  = 4096 // bytes: one page

	// Input from a network file system is not counted as IO and costs little CPU time, but it fills
	// memory. Requests from the gate may make an engine grow a little, too.
	memoryRate  = 64 << 10 // bytes a second
	memoryFloor = 1 << 20  // bytes
)

// Decider decides from samples. It is pure: the same samples give the same verdicts. Use
// NewDecider; the zero value is not usable.
type Decider struct {
	stall time.Duration
	last  Sample // the counters at the last progress
	peak  uint64 // the most memory so far: freeing and taking it again is not progress
}

// NewDecider returns a Decider that reports a stall after so long without progress.
func NewDecider(stall time.Duration) *Decider { return &Decider{stall: stall} }

// Next returns the verdict after a sample. A healthy answer decides, unless the engine is dead or
// another user's process listens: then the answer may not be the engine's.
func (d *Decider) Next(s Sample) Verdict {
	switch {
	case s.Gone:
		return EngineGone
	case s.Answer == Foreign:
		return ForeignPort
	case s.Answer == Healthy:
		return Ready
	case d.progressed(s):
		d.last, d.peak = s, max(d.peak, s.Memory)
		return Wait
	case s.At-d.last.At >= d.stall:
		return Stalled
	}
	// A process that ended takes its share of the counters with it: continue from what is left.
	d.last.CPU, d.last.Faults = min(d.last.CPU, s.CPU), min(d.last.Faults, s.Faults)
	return Wait
}

// Idle returns the time without progress at a sample.
func (d *Decider) Idle(s Sample) time.Duration { return s.At - d.last.At }

func (d *Decider) progressed(s Sample) bool {
	span := s.At - d.last.At
	need := max(cpuFloor, time.Duration(cpuShare*float64(span)))
	fill := max(memoryFloor, uint64(memoryRate*span.Seconds()))
	return s.Lines > d.last.Lines || s.Faults > d.last.Faults ||
		s.Memory >= d.peak+fill || s.IO >= d.last.IO+ioFloor || s.CPU >= d.last.CPU+need
}

// The pauses between samples. Most engines listen within a few milliseconds or load for seconds, so
// the first pauses double from firstPause to earlyPause; after that a pause is a tenth of the time
// so far, at most lastPause, so that the gate's requests never keep an engine busy.
const (
	firstPause = time.Millisecond
	earlyPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// Pause returns the time until the next sample.
func Pause(at time.Duration) time.Duration {
	return min(max(at, firstPause), max(at/10, earlyPause), lastPause)
}
