package truth

import (
	"fmt"
	"time"
)

// Rules of a violation.
const (
	RuleEngine  = "engine"  // an engine was restarted or ended without cause
	RuleLease   = "lease"   // a lease was lost, granted twice or counted wrongly
	RulePort    = "port"    // two engines have one port, or another process answers there
	RuleMemory  = "memory"  // more memory is in use than was there
	RuleReady   = "ready"   // a pool is called ready whose engine does not answer
	RuleReason  = "reason"  // a pool is not ready and names no code or no hint
	RuleHandOff = "handoff" // a hand-off file is not whole, or not of what serves
	RuleGrowth  = "growth"  // the manager has grown
	RuleJournal = "journal" // the journal has grown too much
	RuleSettle  = "settle"  // something did not come back
)

// Violation is a rule that did not hold.
type Violation struct {
	At   time.Duration
	Rule string
	Pool string // "" where it is about no pool
	Text string
}

func (v Violation) String() string {
	if v.Pool == "" {
		return fmt.Sprintf("%s at %s: %s", v.Rule, v.At.Round(time.Millisecond), v.Text)
	}
	return fmt.Sprintf("%s at %s, pool %s: %s", v.Rule, v.At.Round(time.Millisecond), v.Pool, v.Text)
}

// Bounds are what the rules allow.
type Bounds struct {
	// Late is how long the API may call an engine ready that has ceased to answer: the probes'
	// interval times their threshold, and a timeout.
	Late time.Duration
	// Reasons is how long a pool may be without a reason while the cause is looked for.
	Reasons time.Duration

	RSSKiB, Descriptors, Goroutines int // growth of the manager since the first settled round

	// JournalRound and JournalSecond are lines of the manager's log, for each round and for each
	// second of it.
	JournalRound, JournalSecond int

	// Memory has groups of pools that share a GPU, and how many of each fit at the same time.
	Memory []Group
}

// Group is pools of one GPU.
type Group struct {
	Pools []string
	Fit   int
}

// Checker holds the rules against one history.
type Checker struct {
	rules []rule
}

// rule is one invariant. It sees every record, and keeps of them what it needs.
type rule interface {
	see(r Record) []Violation
}

// New returns a checker for a history that begins now.
func New(b Bounds) *Checker {
	return &Checker{rules: []rule{
		newEngines(), newLeases(), &ports{}, &memory{groups: b.Memory}, newReadiness(b.Late), newReasons(b.Reasons),
		&handOff{}, &growth{bounds: b}, &journal{bounds: b},
	}}
}

// See takes the next record, and returns what it shows to be wrong.
func (c *Checker) See(r Record) []Violation {
	var all []Violation
	if r.Settled != nil && r.Settled.Unready != "" { // there is nothing to compare
		v := wrong(RuleSettle, "", "round %d: %s", r.Settled.Round, r.Settled.Unready)
		v.At = r.At
		return []Violation{v}
	}
	for _, rule := range c.rules {
		for _, v := range rule.see(r) {
			v.At = r.At
			all = append(all, v)
		}
	}
	return all
}

func wrong(rule, pool, format string, args ...any) Violation {
	return Violation{Rule: rule, Pool: pool, Text: fmt.Sprintf(format, args...)}
}
