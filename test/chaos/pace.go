package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// pace is how much slower a machine is than the host of the tests. What a run allows is a number
// for the host, times this.
type pace int

func (p pace) times(d time.Duration) time.Duration { return time.Duration(p) * d }

// slowest is the pace beyond which a run would show nothing.
const slowest = 40

// measure has the witness do the same work on the host and in the machine. A container is as fast
// as the host; a virtual machine may have to translate each instruction.
func (s *site) measure(ctx context.Context, program string) (pace, error) {
	if s.M.Backend() == machine.Container {
		return 1, nil
	}
	out, err := exec.CommandContext(ctx, program, "work").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("work on the host: %w\n%s", err, out)
	}
	there, err := s.Run(ctx, witnessProgram, "work")
	if err != nil {
		return 0, err
	}
	return ratio(string(out), there)
}

// ratio is the pace by two durations as the witness prints them, rounded up.
func ratio(here, there string) (pace, error) {
	onHost, err := strconv.ParseInt(strings.TrimSpace(here), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("work on the host: %w", err)
	}
	inMachine, err := strconv.ParseInt(strings.TrimSpace(there), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("work in the machine: %w", err)
	}
	if onHost <= 0 || inMachine <= 0 {
		return 0, fmt.Errorf("work took %d ns on the host and %d ns in the machine", onHost, inMachine)
	}
	p := pace(max(1, (inMachine+onHost-1)/onHost))
	if p > slowest {
		return 0, fmt.Errorf("the machine takes %d times as long as the host: more than %d shows nothing", p, slowest)
	}
	return p, nil
}
