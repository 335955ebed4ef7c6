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
// when it ends. They are read before the request of the same sample is sent.
type Sample struct {
	At      time.Duration // since the gate began
	Answer  Answer        // Silent also where no request was sent
	Asked   time.Duration // when the request ended, since the gate began
	Reached bool          // a request was sent, and the engine may have used time or a log line for it
	Gone    bool          // the main process has ended

	CPU     time.Duration // CPU time of the engine's processes
	Read    uint64        // bytes read, as far as the kernel counts them
	Written uint64        // bytes written, likewise
	Faults  uint64        // major page faults, by which a mapped model is read
	Memory  uint64        // resident bytes
	Lines   uint64        // log lines that follow no request of the gate
}

// Verdict is what the gate decides.
type Verdict int

// The verdicts.
const (
	Wait Verdict = iota
	Ready
	EngineGone
	Stalled
	Late // the deadline of the load has passed
	ForeignPort
)

// What counts as progress. An engine that answers the gate's requests uses CPU time, memory and log
// lines for them, whatever form its log has, so that two rules apply.
//
// More than answers take is progress at any time: a tenth of a core, or memory, input or output at
// a rate that no answer causes. Memory shows input from a network file system, which is not counted
// as input and costs little CPU time.
//
// Less than that is progress only while the engine is not asked: between the end of an echo and the
// next request. An engine that does not listen yet is not reached by any request.
const (
	busyShare = 0.1
	busyFloor = 100 * time.Millisecond
	rate      = 64 << 10 // bytes a second
	rateFloor = 1 << 20  // bytes

	cpuShare  = 0.01
	cpuFloor  = 20 * time.Millisecond
	readFloor = 4096 // bytes: one page
)

// The echo of a request is the time after its end in which what the engine does may be a
// consequence of it. Log lines may come from a buffer that is written every few seconds; the
// counters follow at once, and have a tenth of it.
const (
	shortEcho = 100 * time.Millisecond
	longEcho  = 5 * time.Second
)

// Echo returns the echo of log lines for a stall time.
func Echo(stall time.Duration) time.Duration { return min(max(stall/20, shortEcho), longEcho) }

// Decider decides from samples. It is pure: the same samples give the same verdicts. Use
// NewDecider; the zero value is not usable.
type Decider struct {
	stall, deadline time.Duration
	last            Sample // the counters at the last progress
	peak            uint64 // the most memory so far: freeing and taking it again is not progress

	quiet     bool          // no request reached the engine since base
	base      Sample        // the counters at the newest sample while it was not asked
	gained    Sample        // since the last progress, while it was not asked; At is how long that was
	echoUntil time.Duration // the end of the newest request's echo

	asked   time.Duration // when the newest request was sent
	reached bool          // and whether it reached the engine
}

// NewDecider returns a Decider that reports a stall after so long without progress, and a load that
// takes longer than deadline; 0: any time.
func NewDecider(stall, deadline time.Duration) *Decider {
	return &Decider{stall: stall, deadline: deadline, quiet: true}
}

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
	case d.deadline > 0 && s.At >= d.deadline:
		return Late
	}
	if !d.quiet && s.At >= d.echoUntil {
		d.quiet, d.base = true, s
	}
	if d.quiet {
		d.gain(s)
	}
	progressed := s.Lines > d.last.Lines || d.busy(s) || d.moves()
	switch {
	case progressed:
		d.last, d.gained, d.peak = s, Sample{}, max(d.peak, s.Memory)
	case s.At-d.last.At >= d.stall:
		return Stalled
	default:
		// A process that ended takes its share of the counters with it: continue from what is left.
		d.last.CPU, d.last.Faults = min(d.last.CPU, s.CPU), min(d.last.Faults, s.Faults)
	}
	if s.Asked > 0 {
		d.asked, d.reached = s.At, s.Reached
	}
	if s.Reached {
		d.quiet, d.echoUntil = false, s.Asked+Echo(d.stall)/10
	}
	return Wait
}

// Idle returns the time without progress at a sample.
func (d *Decider) Idle(s Sample) time.Duration { return s.At - d.last.At }

// Pause returns the time until the next sample: not longer than to the end of an echo, from where
// on progress counts again.
func (d *Decider) Pause(at time.Duration) time.Duration {
	if left := d.echoUntil - at; !d.quiet && left > 0 {
		return min(Pause(at), left)
	}
	return Pause(at)
}

// Due reports whether to send a request. An engine that answers and shows no progress is asked less
// and less often, so that its progress can be seen apart from its answers; once more before a
// verdict.
func (d *Decider) Due(at time.Duration) bool {
	idle := at - d.last.At
	switch {
	case !d.reached || idle >= d.stall:
		return true
	case idle < d.stall/patience:
		return at-d.asked >= Pause(d.asked)
	}
	return at-d.asked >= max(Pause(d.asked), min(idle/3, longestPause))
}

// longestPause is the longest time between two requests. An engine that is ready is seen so much
// later at worst.
const longestPause = 30 * time.Second

// busy reports more than answers take, since the last progress.
func (d *Decider) busy(s Sample) bool {
	span := s.At - d.last.At
	fill := max(rateFloor, uint64(rate*span.Seconds()))
	return s.Memory >= d.peak+fill || s.Read+s.Written >= d.last.Read+d.last.Written+fill ||
		s.CPU >= d.last.CPU+max(busyFloor, time.Duration(busyShare*float64(span)))
}

// gain adds what the engine did since the former sample, while it was not asked.
func (d *Decider) gain(s Sample) {
	from := &d.base
	d.gained.At += s.At - from.At
	d.gained.CPU += max(s.CPU-from.CPU, 0)
	d.gained.Faults += s.Faults - min(from.Faults, s.Faults)
	d.gained.Read += s.Read - min(from.Read, s.Read)
	d.base = s
}

// moves reports any progress of the engine while it was not asked.
func (d *Decider) moves() bool {
	return d.gained.Faults > 0 || d.gained.Read >= readFloor ||
		d.gained.CPU >= max(cpuFloor, time.Duration(cpuShare*float64(d.gained.At)))
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
