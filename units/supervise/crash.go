package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/lastwords"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/relax"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// ended is what is known of the newest run of a replica that ended badly. It belongs to the loop.
type ended struct {
	run       string            // the invocation
	origin    logOrigin         // of its lines
	failure   *registry.Failure // as PID 1 reports it
	atLimit   bool              // PID 1 starts the unit no longer
	withdrawn bool              // it was no crash after all
	ending    registry.Ending
	backoff   time.Duration // that PID 1 waits; 0: it does not
	next      time.Time     // when PID 1 starts it again; zero: not known

	verdict  *classify.Verdict // what the log says of it; nil: nothing
	lastLine string            // the line that reports most, "" for none
	heard    string            // what the gate heard of it before it gave up, "" for nothing
	blocked  *relax.Finding    // how the sandbox explains it; nil: not at all
	read     bool              // the log was read, or will not be
	lack     *lack             // what it had of the memory; nil: it had loaded
}

// reportCrash takes what PID 1 says of a run that ended badly, and returns why in all words that
// are known by now. The first call for a run has its log read beside the loop; when that is done
// the failure is completed, logged and noted as an event. Further calls for the same run complete
// it: PID 1 signals the parts of an end one by one.
func (s *Supervisor) reportCrash(r *replica, st systemd.Status, f *registry.Failure) *registry.Failure {
	st = throughMonitor(st, r.pool())
	e := r.last.report
	first := e == nil || e.run != st.InvocationID
	if first {
		e = &ended{run: st.InvocationID, origin: originOf(r.unit.name, st), lack: s.lackOf(r, st)}
		r.last.report = e
	}
	e.take(st, f)
	if e.ending.EngineVersion = r.version(); r.unit.phase == reconcile.Backoff {
		e.backoff = r.backoff()
		e.next = st.StateChange.Add(e.backoff)
	}
	if first {
		s.readEnd(r, e)
	}
	return r.endFailure(time.Now())
}

// stoppedLate reports an engine that did not end when this manager stopped it, and was killed: what
// follows the stop goes on, and someone should know.
func (s *Supervisor) stoppedLate(r *replica, st systemd.Status) {
	if st.ActiveState != "failed" || st.Result != "timeout" {
		return
	}
	st.WasActive = true // a stop it was, however far its load had come
	s.reportCrash(r, st, Diagnose(st, r.pool()))
}

// withdrawReport withdraws the report of a run that was taken for a crash before all of its end was
// known.
func (r *replica) withdrawReport() {
	if r.last.report != nil {
		r.last.report.withdrawn = true
		r.last.report = nil
	}
}

// take folds in what PID 1 says now.
func (e *ended) take(st systemd.Status, f *registry.Failure) {
	if st.Result == startLimitHit && e.failure != nil && e.ending.Result != startLimitHit && !e.atLimit {
		e.atLimit = true // how the run ended is known already, and no longer in Result
		return
	}
	if e.atLimit {
		return
	}
	e.failure = f
	e.ending.Result, e.ending.Uptime, e.ending.RestartCount = st.Result, st.MainRan, st.NRestarts
	e.ending.ExitStatus, e.ending.Signal = 0, ""
	switch st.ExecMainCode {
	case cldExited:
		e.ending.ExitStatus = st.ExecMainStatus
	case cldKilled, cldDumped:
		e.ending.Signal = signalName(st.ExecMainStatus)
	}
}

// endFailure is the failure of the newest run that ended badly, in all words that are known.
func (r *replica) endFailure(now time.Time) *registry.Failure {
	e := r.last.report
	f := e.withFinding(e.withLogVerdict(r.explained(e.run, *e.failure, now)))
	if e.ending.Uptime > 0 {
		f.Message += "; it had run for " + rounded(e.ending.Uptime)
	}
	if e.heard != "" && f.Code == registry.CodeEngineStartTimeout && !strings.Contains(f.Message, e.heard) {
		f.Message += "; the gate saw: " + e.heard
	}
	if e.lastLine != "" && !strings.Contains(f.Message, e.lastLine) {
		f.Message += "; last log line: " + e.lastLine
	}
	if e.ending.Suppressed > 0 {
		f.Message += fmt.Sprintf("; journald suppressed %d lines of this run or the end of the one before",
			e.ending.Suppressed)
	}
	if e.atLimit {
		f.Message = gaveUp + f.Message
	}
	ending := e.ending
	f.Ending = &ending
	return &f
}

// withLogVerdict lets the log of the run say why a process ended that no one ended from outside.
func (e *ended) withLogVerdict(f registry.Failure) registry.Failure {
	byItself := slices.Contains([]string{"success", "exit-code", "signal", "core-dump", startLimitHit}, e.ending.Result)
	open := slices.Contains([]registry.Code{registry.CodeEngineCrashed, registry.CodeEngineExited,
		registry.CodeEngineStartFailed}, f.Code)
	if e.verdict == nil || !byItself || !open {
		return f
	}
	return *registry.Fail(registry.Code(e.verdict.Code), lastwords.Clean(e.verdict.Text)+"; "+f.Message, e.verdict.Hint)
}

// rounded is a duration as people say it.
func rounded(d time.Duration) string {
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	default:
		d = max(d.Round(time.Millisecond), time.Millisecond)
	}
	return d.String()
}

// readEnd has the log of a run that has ended read, and completes its report.
func (s *Supervisor) readEnd(r *replica, e *ended) {
	if s.o.Journal != nil && e.run != "" {
		s.readLog(e.origin, e.run, func(t tail, missing string) { s.finishReport(r, e, t, missing) })
		return
	}
	const why = "the run has no log"
	s.effect(func(ctx context.Context) func() {
		sleep(ctx, crashSettle) // PID 1 may not have reported everything of the end
		return func() { s.finishReport(r, e, tail{}, why) }
	}, func(error) { s.finishReport(r, e, tail{}, why) })
}

// finishReport completes the report of a run.
func (s *Supervisor) finishReport(r *replica, e *ended, t tail, missing string) {
	lines := t.lines
	e.read, e.heard = true, lastwords.Clean(t.heard)
	if e.withdrawn {
		return
	}
	e.ending.Lines, e.ending.NoLines, e.ending.Suppressed = lastwords.Choose(lines), missing, t.dropped
	e.lastLine = lastwords.LastError(lines)
	if v, ok := r.reason(lines); ok {
		e.verdict = &v
	} else if v, ok := portVerdict(lines); ok && e.failure.Code == registry.CodeEngineStartFailed {
		e.verdict = &v
	}
	e.blocked = r.blocked(lines, e.ending.Signal)
	newest := r.last.report == e && r.entry.replicas[r.id] == r
	if r.last.report != e { // it has ended again since; this report is of the former run all the same
		later := r.last.report
		r.last.report = e
		defer func() { r.last.report = later }()
	}
	f := r.endFailure(time.Now())
	if moved := newest && r.last.crash != nil && s.move(r, e.run, f); !moved {
		s.reclassify(r, e.run, restarts.ClassOf(f.Code), f)
	}
	s.logCrash(r, e, f)
	if newest && r.last.crash != nil {
		r.last.crash, r.view.logged = f, f.Error()
		s.raiseNeed(r, e, f, lines)
		s.settle(r)
	}
	s.o.Registry.Note(registry.Event{Kind: registry.KindCrash, PoolID: r.id.Pool, ReplicaID: r.id.Name(),
		State: r.view.state, Ready: !r.run.readySince.IsZero(),
		Reason: registry.ReasonOf(f), Cause: f.Message, Failure: f})
}

// absenceLines is how near the end of its log an engine without a GPU has to report that absence
// for it to be why it ended.
const absenceLines = 3

// reason is what an engine's log says of its GPU. A build for GPUs reports their absence in each
// start on the CPU: it is the reason only of a run that ends with it.
func (r *replica) reason(lines []string) (classify.Verdict, bool) {
	v, ok := classify.Reason(lines)
	absent := v.Code == classify.CodeDriver || v.Code == classify.CodeUnavailable
	if ok && absent && r.wish.known && len(r.asked()) == 0 {
		return classify.Reason(lines[max(0, len(lines)-absenceLines):])
	}
	return v, ok
}

// logCrash logs the end of a run, with everything that is known of it.
func (s *Supervisor) logCrash(r *replica, e *ended, f *registry.Failure) {
	attrs := withValues(s.about(r), "last_error", f.Error(), "restart_count", e.ending.RestartCount)
	attrs = append(attrs, "result", e.ending.Result, "invocation_id", e.run, "hint", f.Hint)
	switch {
	case e.ending.Signal != "":
		attrs = append(attrs, "signal", e.ending.Signal)
	case e.ending.Result == "exit-code", f.Code == registry.CodeEngineExited:
		attrs = append(attrs, "exit_status", e.ending.ExitStatus)
	}
	if e.ending.Uptime > 0 {
		attrs = append(attrs, "uptime_ms", e.ending.Uptime.Milliseconds())
	}
	if e.ending.EngineVersion != "" {
		attrs = withValues(attrs, "engine_version", e.ending.EngineVersion)
	}
	if e.backoff > 0 && !e.atLimit {
		attrs = withValues(attrs, "backoff_ms", e.backoff.Milliseconds(), "next_restart_ms", e.next.UnixMilli())
	}
	if e.ending.NoLines != "" {
		attrs = append(attrs, "no_lines", e.ending.NoLines)
	} else {
		attrs = append(attrs, "lines", strings.Join(e.ending.Lines, "\n"))
	}
	if e.ending.Suppressed > 0 {
		attrs = append(attrs, "lines_suppressed", e.ending.Suppressed)
	}
	level := slog.LevelWarn
	if c := restarts.ClassOf(f.Code); c == restarts.OOM {
		level = slog.LevelError
		attrs = append(attrs, "window_ms", r.policy().BreakerWindow.Milliseconds(),
			"count", r.past.State.Count(r.policy(), c, s.o.Clock.SinceBoot()))
	}
	attrs = append(attrs, catalogue.Key, catalogue.EngineEnded)
	s.o.Log.Log(s.ctx, level, fmt.Sprintf("%s: %s", r.id, f.Message), attrs...)
}

// withValues sets keys of a list of attributes, in place of former values.
func withValues(attrs []any, pairs ...any) []any {
	for i := 0; i+1 < len(pairs); i += 2 {
		at := 0
		for at < len(attrs) && attrs[at] != pairs[i] {
			at += 2
		}
		if at < len(attrs) {
			attrs[at+1] = pairs[i+1]
		} else {
			attrs = append(attrs, pairs[i], pairs[i+1])
		}
	}
	return attrs
}

// reportPending reports whether a failure is of a crash whose report is not complete: it is logged
// then, once.
func (r *replica) reportPending(f *registry.Failure) bool {
	return f.Ending != nil && r.last.report != nil && !r.last.report.read
}

// endedItself reports whether an engine is stopped because it ended by itself, without an error,
// and its pool's file says that this is a stop. Otherwise PID 1 starts it again, and it is stopped
// because someone stopped it in that wait.
func (r *replica) endedItself() bool {
	return r.unit.phase == reconcile.Exited && r.unit.status.EndedFirst && endedWell(r.unit.status) &&
		r.pool().Restart.OnExit == pool.ExitStops
}

// explainBy keeps why the manager ends a process, as the reason of the end that PID 1 will tell.
func (r *replica) explainBy(f *registry.Failure, run string, now time.Time) {
	if f != nil {
		r.last.fault = &fault{failure: f, run: run, at: now}
	}
}
