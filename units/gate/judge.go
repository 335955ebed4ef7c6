package gate

import "time"

// Answer is what the engine's endpoint said to one question.
type Answer int

// The answers.
const (
	Silent  Answer = iota // nobody listens, or no answer came
	Loading               // an answer that does not mean healthy
	Healthy               // the wanted status
	Foreign               // somebody else's process listens on the port
)

// Sample is one look at the engine. Counters grow, but for those that a process takes with it when
// it ends.
type Sample struct {
	At     time.Duration // since the gate began
	Answer Answer
	Gone   bool // the main process has ended

	CPU    time.Duration // CPU time of the engine's processes
	IO     uint64        // bytes read and written by them, as far as the kernel counts
	Faults uint64        // major page faults: a model that is mapped is read by them
	Memory uint64        // bytes of it that are resident
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

// What counts as progress. An engine that does nothing still answers the gate's own questions,
// which costs it a little CPU time: so a share of a core is asked for, and a floor for short spans.
const (
	cpuShare = 0.01
	cpuFloor = 50 * time.Millisecond
	ioFloor  = 4096 // bytes: one page

	// Input from a network file system is not counted as such, and costs little CPU time: but it
	// fills memory. Answers to the gate may make an engine grow a little, too.
	memoryRate  = 64 << 10 // bytes a second
	memoryFloor = 1 << 20  // bytes
)

// Judge decides from samples. It is pure: the same samples give the same verdicts. The zero value
// is not usable; see NewJudge.
type Judge struct {
	stall time.Duration
	mark  Sample // the counters at the last progress
	peak  uint64 // the most memory at a progress: what is given back and taken again is none
}

// NewJudge makes a judge that calls a load stalled after so long without progress.
func NewJudge(stall time.Duration) *Judge { return &Judge{stall: stall} }

// Next takes a sample. Healthy wins over everything but a foreign listener and a dead engine: an
// answer on the port proves nothing when it may be somebody else's.
func (j *Judge) Next(s Sample) Verdict {
	switch {
	case s.Gone:
		return EngineGone
	case s.Answer == Foreign:
		return ForeignPort
	case s.Answer == Healthy:
		return Ready
	case j.moved(s):
		j.mark, j.peak = s, max(j.peak, s.Memory)
		return Wait
	case s.At-j.mark.At >= j.stall:
		return Stalled
	}
	// What a process that ended has taken with it must not be made up for first.
	j.mark.CPU, j.mark.Faults = min(j.mark.CPU, s.CPU), min(j.mark.Faults, s.Faults)
	return Wait
}

// Idle is how long nothing has moved at a sample.
func (j *Judge) Idle(s Sample) time.Duration { return s.At - j.mark.At }

func (j *Judge) moved(s Sample) bool {
	span := s.At - j.mark.At
	need := max(cpuFloor, time.Duration(cpuShare*float64(span)))
	fill := max(memoryFloor, uint64(memoryRate*span.Seconds()))
	return s.Lines > j.mark.Lines || s.Faults > j.mark.Faults ||
		s.Memory >= j.peak+fill || s.IO >= j.mark.IO+ioFloor || s.CPU >= j.mark.CPU+need
}

// The pauses between samples. Most engines listen within a few milliseconds or load for seconds, so
// the first pauses double from firstPause to earlyPause; after that a pause is a tenth of the time
// so far, at most lastPause, so that questions never keep an engine busy.
const (
	firstPause = time.Millisecond
	earlyPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// Pause is the time until the next sample.
func Pause(at time.Duration) time.Duration {
	return min(max(at, firstPause), max(at/10, earlyPause), lastPause)
}
