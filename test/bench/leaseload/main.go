// Command leaseload runs inside a test machine. It takes leases of a pool and releases them over
// unix sockets, with 1, 8 and 64 callers: of the manager, and in turn with it of two peers that
// have the same requests and answers. One keeps its leases in a bbolt file, the other nowhere.
//
// Usage: leaseload POOL ROUNDS PAIRS PID. Each target gets so many pairs of an acquire and a
// release in each round, an eighth of them from one caller; PID is the manager's. It prints a JSON
// object for each target and number of callers; times are of a pair. On a busy machine the server's
// processor time is the most reliable figure.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

// target is a server of leases.
type target struct {
	name, socket, path string
	pid                int
}

// result is what is printed.
type result struct {
	Target  string  `json:"target"`
	Callers int     `json:"callers"`
	PerSec  float64 `json:"pairs_per_sec"`
	Median  float64 `json:"median_usec"`
	P99     float64 `json:"p99_usec"`
	Longest float64 `json:"longest_usec"`
	CPU     float64 `json:"processor_usec"`
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == serveWord {
		guest.Main("leaseload", serve)
		return
	}
	guest.Main("leaseload", run)
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: leaseload POOL ROUNDS PAIRS PID")
	}
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.Atoi(args[i+1])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	rounds, pairs, pid := numbers[0], numbers[1], numbers[2]
	dir, err := os.MkdirTemp("/run", "leaseload-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := "/v1/pools/" + args[0] + "/leases"
	targets := []target{{"manager", guest.Socket, path, pid}}
	for _, kind := range []string{kindBbolt, kindNone} {
		socket := filepath.Join(dir, kind)
		pid, stop, err := startPeer(kind, socket)
		if err != nil {
			return err
		}
		defer stop()
		targets = append(targets, target{kind, socket, path, pid})
	}
	for _, callers := range []int{1, 8, 64} {
		if err := measure(targets, callers, rounds, pairs*min(callers, 8)/8); err != nil {
			return err
		}
	}
	return nil
}

// tally is what the rounds of a target add up to.
type tally struct {
	took      []time.Duration // of each pair
	busy, cpu time.Duration
}

// measure runs all rounds with so many callers, and prints a result for each target.
func measure(targets []target, callers, rounds, pairs int) error {
	tallies := make([]tally, len(targets))
	for range rounds {
		for i, t := range targets {
			if err := tallies[i].round(t, callers, pairs/callers); err != nil {
				return fmt.Errorf("%s with %d callers: %w", t.name, callers, err)
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	for i, t := range targets {
		if err := out.Encode(tallies[i].result(t.name, callers)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tally) round(of target, callers, pairs int) error {
	before, err := processorTime(of.pid)
	if err != nil {
		return err
	}
	began := time.Now()
	list, err := of.load(callers, pairs)
	if err != nil {
		return err
	}
	t.busy += time.Since(began)
	t.took = append(t.took, list...)
	after, err := processorTime(of.pid)
	t.cpu += after - before
	return err
}

func (t *tally) result(name string, callers int) result {
	slices.Sort(t.took)
	n := len(t.took)
	usec := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return result{Target: name, Callers: callers, PerSec: float64(n) / t.busy.Seconds(), Median: usec(t.took[n/2]),
		P99: usec(t.took[n*99/100]), Longest: usec(t.took[n-1]), CPU: usec(t.cpu) / float64(n)}
}

// tick is the unit of times in /proc/PID/stat (proc_pid_stat(5)); Linux has had 100 a second on
// every architecture that Go builds for.
const tick = 10 * time.Millisecond

// processorTime returns what a process has used, its threads included.
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// load has so many callers at the same time, each with a connection of its own.
func (t target) load(callers, pairs int) ([]time.Duration, error) {
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { took[i], errs[i] = t.call(pairs) })
	}
	all.Wait()
	return slices.Concat(took...), errors.Join(errs...)
}
