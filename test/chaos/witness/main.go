// Command witness runs inside a test machine. It uses all pools as clients do (leases that are kept
// and leases that are used once, readers of hand-off files, readers of events), looks at everything
// a few times a second, from the API, the engines themselves and /proc, and prints what it sees as
// one truth.Record a line.
//
// Usage: witness INTERVAL PAUSE. It looks at everything with the interval, and uses each pool with
// the pause between two uses. A line "quiet N" on standard input ends the requests under way and
// begins no other until a line "load N" comes; each is echoed when it has been carried out. It ends
// with its input.
//
// Usage: witness work. It prints in how many nanoseconds it does what has nothing to wait for.
//
// Usage: witness hostile KIND DURATION. It is a client that means no good; the kinds are in
// hostile.go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
)

func main() { guest.Main("witness", run) }

func run(args []string) error {
	if len(args) == 3 && args[0] == "hostile" {
		d, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		return hostile(args[1], d)
	}
	switch {
	case len(args) == 1 && args[0] == "nothing":
		return nil
	case len(args) == 1 && args[0] == "work":
		return work()
	case len(args) != 2:
		return errors.New("usage: witness INTERVAL PAUSE | witness work | witness hostile KIND DURATION")
	}
	w := &witness{c: guest.NewClient(), began: time.Now(), out: json.NewEncoder(os.Stdout)}
	var err error
	if w.interval, err = time.ParseDuration(args[0]); err != nil {
		return err
	}
	if w.between, err = time.ParseDuration(args[1]); err != nil {
		return err
	}
	return w.run()
}

// witness is the state that its goroutines share.
type witness struct {
	c        *http.Client
	began    time.Time
	interval time.Duration // between two looks
	between  time.Duration // two uses of a pool

	mu  sync.Mutex
	out *json.Encoder

	// busy is held for reading by each request that may change something, and for writing while
	// the witness is quiet.
	busy sync.RWMutex

	uses, failed, events atomic.Int64
}

func (w *witness) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	pools, err := w.pools(ctx)
	if err != nil {
		return err
	}
	all.Go(func() { w.watch(ctx) })
	for _, p := range pools {
		all.Go(func() { w.keep(ctx, p.ID) })
		all.Go(func() { w.useOften(ctx, p.ID) })
	}
	for range readers {
		all.Go(func() { w.follow(ctx) })
	}
	return w.obey(ctx)
}

// obey carries out the commands of the input, until it ends.
func (w *witness) obey(ctx context.Context) error {
	quiet := false
	defer func() {
		if quiet {
			w.busy.Unlock()
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var command string
		var number int
		if _, err := fmt.Sscan(in.Text(), &command, &number); err != nil {
			return fmt.Errorf("command %q: %w", in.Text(), err)
		}
		switch {
		case command == "quiet" && !quiet:
			w.busy.Lock()
			w.look(ctx)
		case command == "load" && quiet:
			w.busy.Unlock()
		default:
			return fmt.Errorf("command %q now", in.Text())
		}
		quiet = !quiet
		w.print(truth.Record{Echo: &truth.Echo{Command: number, Uses: int(w.uses.Load()), Failed: int(w.failed.Load()),
			Events: int(w.events.Load())}})
	}
	return nil
}

// print prints a record with the time.
func (w *witness) print(r truth.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.At = w.now()
	if err := w.out.Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, "witness:", err) // the reader has gone, and the input will end
	}
}

func (w *witness) now() time.Duration { return time.Since(w.began) }

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
