package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// bounds are what a run allows. The probes of the pools need 1.5 s to find an engine that is
// silent, and the rest is for cores that others use too.
func bounds(p pace) truth.Bounds {
	return truth.Bounds{
		Late: p.times(6 * time.Second), Reasons: p.times(5 * time.Second), RSSKiB: 16 << 10, Descriptors: 40,
		Goroutines: 60, JournalRound: 600, JournalSecond: 5, Memory: []truth.Group{{Pools: contenders, Fit: fit}},
	}
}

// How long a machine may need that is as fast as the host.
const (
	settleWithin = 90 * time.Second
	actWithin    = 2 * time.Minute
	rest         = 2500 * time.Millisecond // the manager returns memory two seconds after it needed it
	interval     = 400 * time.Millisecond  // of looks
	between      = time.Second             // two uses of a pool
)

// run is one history.
type run struct {
	s     *site
	pace  pace
	kinds []Kind
	log   func(format string, args ...any)

	witness *machine.Process
	input   io.WriteCloser
	read    chan error // the reader of the witness has ended
	command int
	echoes  chan truth.Echo

	mu       sync.Mutex
	checker  *truth.Checker
	at       time.Duration // of the newest record
	last     truth.Look    // the newest
	found    []truth.Violation
	failures []error // faults that could not be made
	counts   map[string]int
	rounds   int
	looks    int
	leases   map[string]int // requests about leases, by what became of them
	echo     truth.Echo     // the newest
}

// start starts the witness, and settles once.
func start(ctx context.Context, s *site, kinds []Kind, log func(string, ...any)) (*run, error) {
	pace := s.pace
	r := &run{s: s, pace: pace, kinds: kinds, log: log, checker: truth.New(bounds(pace)),
		counts: make(map[string]int), leases: make(map[string]int),
		read: make(chan error, 1), echoes: make(chan truth.Echo, 1)}
	stdin, input := io.Pipe()
	output, stdout := io.Pipe()
	r.input = input
	var err error
	r.witness, err = s.M.Start(ctx, machine.Command{Stdin: stdin, Stdout: stdout,
		Args:   []string{witnessProgram, pace.times(interval).String(), pace.times(between).String()},
		Stderr: writer(func(text string) { log("witness: %s", text) })})
	if err != nil {
		return nil, err
	}
	go func() { r.read <- r.listen(output) }()
	go func() {
		_, err := r.witness.Wait()
		stdout.CloseWithError(err) // nil is the end of the file
	}()
	r.see(truth.Record{Begin: &truth.Begin{Round: -1}})
	time.Sleep(pace.times(5 * time.Second)) // the load begins
	return r, r.settle(ctx, -1)
}

// writer logs what a program writes.
type writer func(text string)

func (w writer) Write(p []byte) (int, error) {
	w(strings.TrimSpace(string(p)))
	return len(p), nil
}

// listen hands the witness's records to the checker.
func (r *run) listen(output io.Reader) error {
	in := bufio.NewScanner(output)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		var record truth.Record
		if err := json.Unmarshal(in.Bytes(), &record); err != nil {
			return fmt.Errorf("the witness wrote %.200q: %w", in.Text(), err)
		}
		r.see(record)
		if record.Echo != nil {
			r.echoes <- *record.Echo
		}
	}
	return in.Err()
}

// see hands a record to the checker. One of this side is as new as the newest of the witness.
func (r *run) see(record truth.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if record.At == 0 {
		record.At = r.at
	}
	r.at = record.At
	switch {
	case record.Look != nil:
		r.last = *record.Look
		r.looks++
	case record.Lease != nil:
		r.leases[record.Lease.Did]++
		if record.Lease.Did == truth.Refused {
			r.leases[record.Lease.Code]++
		}
	case record.Echo != nil:
		r.echo = *record.Echo
	}
	for _, v := range r.checker.See(record) {
		r.found = append(r.found, v)
		r.log("VIOLATION %s", v)
	}
}

// say gives the witness a command, and waits for it to be carried out.
func (r *run) say(ctx context.Context, word string) error {
	r.command++
	if _, err := fmt.Fprintln(r.input, word, r.command); err != nil {
		return fmt.Errorf("the witness: %w", err)
	}
	select {
	case e := <-r.echoes:
		if e.Command != r.command {
			return fmt.Errorf("the witness echoes %d, not %d", e.Command, r.command)
		}
		return nil
	case err := <-r.read:
		return fmt.Errorf("the witness has ended: %w", errors.Join(io.ErrUnexpectedEOF, err))
	case <-time.After(r.pace.times(actWithin)):
		return fmt.Errorf("the witness does not answer to %q", word)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// round makes the steps of one round, and settles. The error ends the run. Each step has a
// goroutine of its own: a fault may not be over before another one is.
func (r *run) round(ctx context.Context, n int, steps []Step) error {
	b := begin(n, steps, r.kinds)
	r.see(truth.Record{Begin: &b})
	began := time.Now()
	var all sync.WaitGroup
	for _, s := range steps {
		r.log("%s", s)
		r.counts[s.Kind]++
		all.Go(func() {
			k := r.kind(s.Kind)
			r.act(ctx, s, "beginning", k.Begin, began.Add(s.At))
			r.act(ctx, s, "end", k.End, began.Add(s.At+s.Hold))
		})
	}
	all.Wait()
	r.rounds++
	return r.settle(ctx, n)
}

// act begins or ends a fault at its time.
func (r *run) act(ctx context.Context, s Step, what string, act action, at time.Time) {
	if act == nil {
		return
	}
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.pace.times(actWithin))
	defer cancel()
	if err := act(ctx, r.s, s); err != nil {
		err = fmt.Errorf("the %s of %s: %w", what, s, err)
		r.log("FAILED %v", err)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failures = append(r.failures, err)
	}
}

func (r *run) kind(name string) Kind {
	for _, k := range r.kinds {
		if k.Name == name {
			return k
		}
	}
	return Kind{}
}

// settle waits until all is as it should be, ends the load for a moment, and checks everything. The
// error means that nothing can go on: something did not come back.
func (r *run) settle(ctx context.Context, n int) error {
	began := time.Now()
	record := truth.Settled{Round: n, Unready: r.s.recover(ctx, r.pace.times(settleWithin))}
	if err := r.say(ctx, "quiet"); err != nil {
		return err
	}
	if record.Unready != "" {
		r.see(truth.Record{Settled: &record})
		return fmt.Errorf("round %d: %s", n, record.Unready)
	}
	took := time.Since(began)
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.s.facts(ctx, &record); err != nil {
		return err
	}
	r.mu.Lock()
	record.Look = r.last
	r.mu.Unlock()
	r.log("round %d settled after %s: %+v, %d leases, %d lines", n, took.Round(100*time.Millisecond), record.Manager,
		len(record.Held), record.Journal)
	r.see(truth.Record{Settled: &record})
	return r.say(ctx, "load")
}

// stop ends the witness.
func (r *run) stop() error {
	err := r.input.Close()
	select {
	case got := <-r.read:
		return errors.Join(err, got)
	case <-time.After(30 * time.Second):
		return errors.Join(err, r.witness.Kill(), <-r.read)
	}
}
