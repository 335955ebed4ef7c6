package supervise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// world stands in for PID 1, the disk and the engines, so that the loop's order of things can be
// tested in virtual time. The real ones are used by the tests in the machines.
type world struct {
	mu    sync.Mutex
	queue chan delivery
	sent  systemd.Position // of the newest update
	units map[string]*systemd.Status
	props map[string][]systemd.Property
	ended map[string]chan error // start jobs
	calls []string
	runs  int

	stage    func(p pool.Pool) error
	sick     map[string]bool // endpoints that answer 500
	sickWith string          // how each probe fails; empty: as sick says
	busy     map[string]int
	portHeld map[int]bool
	hang     map[string]bool // units whose start call PID 1 never answers
	beats    int
	below254 bool // the delay of a unit does not grow

	stopErr    error             // what every stop ends with
	stopLost   error             // what every stop ends with after PID 1 has carried it out
	stubborn   chan struct{}     // where not nil, engines do not end at SIGTERM; closed by the kill
	contents   map[string]string // which files a model is, by its path
	fileEnv    map[string]pool.FileVariable
	stageHangs bool            // staging goes on until it is reported to end
	download   []pool.Staging  // what staging reports, one a second
	probeDies  bool            // a probe is a defect
	slotsDie   bool            // an answer about slots is one
	mute       map[string]bool // endpoints that answer no probe
	probes     []probed
	generation probe.Outcome        // of every generation
	progress   func() int           // tokens that a slot has decoded; nil: it does not tell
	deferred   string               // what engines publish as metrics
	answers    string               // what engines answer of their slots; empty: the truth
	keyless    error                // what a question about slots ends with
	deaf       error                // what a question about requests under way ends with
	neverRun   error                // a start makes the unit, and this ends its job before it ran
	late       chan struct{}        // where not nil, a start job's end is called when it is closed
	lag        func() time.Duration // where not nil: how long each update, and each call, is under way

	ports // that PID 1 holds

	metricsTake time.Duration // how long that takes; not changed after the first engine is ready
}

func newWorld() *world {
	return &world{
		queue: make(chan delivery, 1024),
		units: make(map[string]*systemd.Status), props: make(map[string][]systemd.Property),
		ended: make(map[string]chan error), sick: make(map[string]bool), busy: make(map[string]int),
		portHeld: make(map[int]bool), hang: make(map[string]bool),
		mute: make(map[string]bool), contents: make(map[string]string),
		ports: ports{held: make(map[pool.Port]bool)},
	}
}

// probed is a probe that the world has answered.
type probed struct {
	host string
	at   time.Time
}

// endpoint is where the first replica listens.
const endpoint = "http://127.0.0.1:21000"

// ill makes the first replica's probes fail, or succeed again.
func (w *world) ill(sick bool) { w.with(func() { w.sick[endpoint] = sick }) }

// illWith makes each probe fail in that way; "" ends it.
func (w *world) illWith(why string) { w.with(func() { w.sickWith = why }) }

// working gives the first replica requests under way.
func (w *world) working(n int) { w.with(func() { w.busy[endpoint] = n }) }

// with changes the world while the loop runs.
func (w *world) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) note(format string, args ...any) {
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

func (w *world) called(prefix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// sync is a full listing, as after a connection.
func (w *world) sync() {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := systemd.Update{Kind: systemd.Synced}
	u.Features.Properties = map[string]string{}
	if !w.below254 {
		u.Features.Properties["RestartSteps"], u.Features.Properties["RestartMaxDelayUSec"] = "u", "t"
	}
	for _, name := range slices.Sorted(maps.Keys(w.units)) {
		u.Units = append(u.Units, *w.units[name])
	}
	w.send(u)
}

// change alters a unit's status, as PID 1 does, and signals it.
func (w *world) change(name string, f func(*systemd.Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := w.units[name]
	was := *st
	st.RestartUSec, st.RestartUSecNext = 0, 0
	f(st)
	switch waits := st.SubState == "auto-restart" && was.SubState != st.SubState; {
	case st.RestartUSec != 0: // f sets them
	case waits:
		st.RestartUSec, st.RestartUSecNext = w.delays(name, st.NRestarts)
	default:
		st.RestartUSec, st.RestartUSecNext = was.RestartUSec, was.RestartUSecNext
	}
	w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: name})
}

func (w *world) Start(ctx context.Context, unit string, props []systemd.Property) (func(context.Context) error, error) {
	w.mu.Lock()
	w.note("start %s", unit)
	if w.hang[unit] {
		w.mu.Unlock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	defer w.mu.Unlock()
	if st := w.units[unit]; st != nil && st.ActiveState != "failed" && st.ActiveState != "inactive" {
		return nil, systemd.ErrUnitExists
	}
	w.runs++
	st := &systemd.Status{
		Name: unit, LoadState: "loaded", ActiveState: "activating", SubState: "start-post", Result: "success",
		MainPID: 1000 + w.runs, InvocationID: fmt.Sprintf("%032d", w.runs), LogFields: logFields(props),
	}
	w.units[unit], w.props[unit] = st, props
	if err := w.neverRun; err != nil {
		st.ActiveState, st.SubState, st.MainPID, st.InvocationID = "inactive", "dead", 0, ""
		w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: unit})
		return func(context.Context) error { return err }, nil
	}
	late := w.late
	end := make(chan error, 1)
	w.ended[unit] = end
	w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: unit})
	return func(ctx context.Context) error {
		select {
		case err := <-end:
			if late != nil {
				<-late
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}

// logFields reads LogExtraFields back, as PID 1 returns them.
func logFields(props []systemd.Property) map[string]string {
	fields := make(map[string]string)
	for _, p := range props {
		if p.Name != "LogExtraFields" {
			continue
		}
		for _, line := range p.Value.([][]byte) {
			k, v, _ := strings.Cut(string(line), "=")
			fields[k] = v
		}
	}
	return fields
}

// passGate lets an engine become active.
func (w *world) passGate(unit string) {
	w.change(unit, func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
	w.ended[unit] <- nil
}

func (w *world) Stop(ctx context.Context, unit string) error {
	w.delay()
	defer w.delay()
	w.mu.Lock()
	w.note("stop %s", unit)
	w.mu.Unlock()
	return w.stop(ctx, unit)
}

func (w *world) stop(ctx context.Context, unit string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if killed := w.stubborn; killed != nil {
		w.mu.Unlock()
		w.change(unit, stopping)
		select {
		case <-ctx.Done():
		case <-killed:
		}
		w.mu.Lock()
	}
	if w.stopErr != nil {
		return w.stopErr
	}
	if st := w.units[unit]; st != nil {
		if st.ActiveState == "activating" && !waitsForRestart(st) {
			select {
			case w.ended[unit] <- &systemd.JobError{Unit: unit, Type: "start", Result: "canceled"}:
			default: // the job of an earlier run has reported its end
			}
			// A gate that is reported to end fails its unit, on the way to inactive.
			st.ActiveState, st.SubState, st.MainPID, st.Result = "failed", "failed", 0, "exit-code"
			w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: unit})
		}
		waited := waitsForRestart(st)
		st.ActiveState, st.SubState, st.MainPID = "inactive", "dead", 0
		if waited { // its job is still there when it is reported
			st.JobID = 7
			w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: unit})
			st.JobID = 0
		}
		w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: unit})
	}
	return w.stopLost
}

func (w *world) Clear(ctx context.Context, unit string) error {
	w.delay()
	defer w.pass(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("clear %s", unit)
	delete(w.units, unit)
	w.send(systemd.Update{Kind: systemd.Removed, Name: unit})
	return nil
}

func (w *world) Adopt(_ context.Context, unit string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("adopt %s", unit)
	return nil
}

func (w *world) SetProperties(_ context.Context, unit string, props []systemd.Property) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("set %s %d", unit, len(props))
	st := w.units[unit]
	w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: unit})
	return nil
}

// StopWaiting is refused where PID 1 has begun the restart.
func (w *world) StopWaiting(ctx context.Context, unit string) error {
	w.mu.Lock()
	w.note("stop-waiting %s", unit)
	st := w.units[unit]
	begun := st != nil && (st.JobID != 0 || st.ActiveState == "activating" && !waitsForRestart(st))
	w.mu.Unlock()
	if begun {
		return systemd.ErrJobExists
	}
	return w.stop(ctx, unit)
}

// waitsForRestart reports whether a unit has no process and no job.
func waitsForRestart(st *systemd.Status) bool {
	return strings.HasPrefix(st.SubState, "auto-restart") && st.JobID == 0
}

// again gives a unit its next run.
func (w *world) again(unit string) {
	w.change(unit, func(st *systemd.Status) {
		w.runs++
		st.ActiveState, st.SubState, st.Result = "activating", "start-post", "success"
		st.MainPID, st.InvocationID = 1000+w.runs, fmt.Sprintf("%032d", w.runs)
	})
}

func (w *world) ResetCounters(_ context.Context, unit string) error {
	w.mu.Lock()
	w.note("reset %s", unit)
	w.mu.Unlock()
	w.change(unit, func(st *systemd.Status) { st.NRestarts = 0 })
	return nil
}

// Kill ends a process; PID 1 waits before it starts the next.
func (w *world) Kill(_ context.Context, unit string) error {
	w.mu.Lock()
	w.note("kill %s", unit)
	serves := w.units[unit] != nil && w.units[unit].ActiveState == "active"
	stops := w.units[unit] != nil && w.units[unit].ActiveState == "deactivating"
	w.mu.Unlock()
	if stops {
		if w.stubborn != nil {
			close(w.stubborn)
		}
		w.change(unit, func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result, st.MainPID = "failed", "failed", "signal", 0
		})
	}
	if serves {
		w.change(unit, func(st *systemd.Status) {
			crashed(st)
			st.ExecMainStatus = 9
		})
	}
	return nil
}

func (w *world) Unit(ctx context.Context, unit string) (systemd.Status, error) {
	w.delay()
	defer w.delay()
	defer w.pass(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	st := systemd.Status{Name: unit}
	if have := w.units[unit]; have != nil {
		st = *have
	}
	st.Position = w.sent
	return st, nil
}

func (w *world) Stage(ctx context.Context, p pool.Pool, report func(pool.Staging)) (pool.Staged, error) {
	w.mu.Lock()
	stage, hangs, download := w.stage, w.stageHangs, w.download
	w.note("stage %s", p.ID)
	w.mu.Unlock()
	for _, p := range download {
		report(p)
		sleep(ctx, time.Second)
	}
	if hangs {
		<-ctx.Done()
		return pool.Staged{}, ctx.Err()
	}
	if stage != nil {
		if err := stage(p); err != nil {
			return pool.Staged{}, err
		}
	}
	return pool.Staged{Path: p.Model.Path(), Files: []string{p.Model.Path()}, Contents: w.Identify(ctx, p),
		FileEnv: w.fileEnv}, nil
}

// Identify returns what a test says of the model's files; by default nothing is known of them.
func (w *world) Identify(_ context.Context, p pool.Pool) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.contents[p.Model.Path()]
}

func (w *world) Prepare(context.Context, pool.Pool, engine.Adapter) (pool.Prepared, error) {
	return pool.Prepared{Binary: "/usr/bin/llama-server", Version: "b1"}, nil
}

// Reason takes the text for the word.
func (w *world) Reason(err error) string { return err.Error() }

func (w *world) portFree(port int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.portHeld[port] || w.ports.has(port) {
		return registry.Fail(registry.CodePortInUse, fmt.Sprintf("port %d is taken", port), "free it")
	}
	return nil
}

type noObserver struct{}

func (noObserver) Restarted(registry.Pool, string, int)                    {}
func (noObserver) RestartScheduled(registry.Pool, string, time.Duration)   {}
func (noObserver) Turned(time.Duration)                                    {}
func (noObserver) DriverReset(string, string)                              {}
func (noObserver) LogReport(string)                                        {}
func (noObserver) AnswerRefused(registry.Pool, string)                     {}
func (noObserver) Counted(registry.Pool, string, string, registry.Counted) {}
func (noObserver) Reloaded(registry.Pool, time.Duration, string)           {}
func (noObserver) Storm(registry.Pool, string)                             {}
func (noObserver) Breaker(registry.Pool, string)                           {}
func (noObserver) Drained(registry.Pool, time.Duration, bool)              {}
func (noObserver) Probed(registry.Pool, string, time.Duration)             {}
func (noObserver) Preloaded(string)                                        {}

// listPorts hands out 21000, 21001, … and none twice, as long as there are others.
type listPorts struct {
	by   map[pool.Replica]int
	last int
}

func (l *listPorts) Claim(r pool.Replica, want int) (int, error) {
	if have := l.by[r]; have != 0 && (want == 0 || want == have) {
		return have, nil
	}
	if want == 0 {
		l.last++
		want = 20999 + l.last
	}
	l.by[r] = want
	return want, nil
}
func (l *listPorts) Reserve([]int)                  {}
func (l *listPorts) Adopt(r pool.Replica, port int) { l.by[r] = port }
func (l *listPorts) Release(r pool.Replica)         { delete(l.by, r) }
