// Package chaos tries an installed machine with 20 pools under load by a random mix of faults, and
// holds after each what must hold (package truth).
//
// It owns the table of faults, the schedule, which is a function of the seed alone, and the run of
// it. It reaches the product through what its users have: files, systemctl, signals and the API.
package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Step is a kind of fault at a time, chosen by the seed.
type Step struct {
	Round, Index int // its name is ROUND.INDEX
	Kind         string
	At           time.Duration // since the round began
	Hold         time.Duration // between the fault and its end
	Pools        []string      // that it hits
	Dice         uint64        // for what else a kind has to choose
}

// Name is how the step is listed to try it alone.
func (s Step) Name() string { return fmt.Sprintf("%d.%d", s.Round, s.Index) }

func (s Step) String() string {
	text := fmt.Sprintf("%s %s at %s", s.Name(), s.Kind, s.At.Round(time.Millisecond))
	if s.Hold > 0 {
		text += " for " + s.Hold.Round(time.Millisecond).String()
	}
	if len(s.Pools) > 0 {
		text += " on " + strings.Join(s.Pools, " ")
	}
	return text
}

// latest is how far apart the steps of a round may begin.
const latest = 3 * time.Second

// Round returns the steps of a round: one to three, that take nothing from each other. It depends
// on its arguments alone, and no step depends on the others but by what they take.
func Round(seed uint64, round int, kinds []Kind) []Step {
	dice := rand.New(rand.NewPCG(seed, uint64(round)))
	n := 1 + dice.IntN(2) + dice.IntN(2)
	var steps []Step
	var taken []string
	for i := range n {
		k, ok := choose(dice, kinds, taken)
		if !ok {
			break
		}
		taken = append(taken, k.Takes...)
		steps = append(steps, k.step(dice, round, i))
	}
	return steps
}

// choose draws a kind by weight among those that need nothing of what is taken.
func choose(dice *rand.Rand, kinds []Kind, taken []string) (Kind, bool) {
	sum := 0
	var free []Kind
	for _, k := range kinds {
		if !slices.ContainsFunc(k.Takes, func(t string) bool { return slices.Contains(taken, t) }) {
			free = append(free, k)
			sum += k.Weight
		}
	}
	if sum == 0 {
		return Kind{}, false
	}
	at := dice.IntN(sum)
	for _, k := range free {
		if at -= k.Weight; at < 0 {
			return k, true
		}
	}
	return Kind{}, false // not reached: at is less than the sum of the weights
}

// step draws the rest of a step.
func (k Kind) step(dice *rand.Rand, round, index int) Step {
	s := Step{Round: round, Index: index, Kind: k.Name, Dice: dice.Uint64()}
	s.At = time.Duration(dice.Int64N(int64(latest)))
	if k.Longest > 0 {
		s.Hold = k.Shortest + time.Duration(dice.Int64N(int64(k.Longest-k.Shortest)+1))
	}
	if len(k.Of) > 0 {
		s.Pools = slices.Clone(k.Of)
		dice.Shuffle(len(s.Pools), func(i, j int) { s.Pools[i], s.Pools[j] = s.Pools[j], s.Pools[i] })
		if k.Hits > 0 {
			s.Pools = s.Pools[:1+dice.IntN(min(k.Hits, len(s.Pools)))]
		}
		slices.Sort(s.Pools)
	}
	return s
}

// Named returns the kinds with the names that are listed, separated by spaces or commas; with an
// empty list all.
func Named(list string, kinds []Kind) ([]Kind, error) {
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' })
	if len(names) == 0 {
		return kinds, nil
	}
	var named []Kind
	for _, name := range names {
		i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no kind of fault is called %q", name)
		}
		named = append(named, kinds[i])
	}
	return named, nil
}

// Only returns the steps that are listed, "ROUND.INDEX" separated by spaces or commas; with an
// empty list all.
func Only(list string, steps []Step) []Step {
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' })
	if len(names) == 0 {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return !slices.Contains(names, s.Name()) })
}
