package systemd

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
)

// watcher watches the units of one pattern. It is pure: its methods take what came in, in the order
// of the connection, and return what to do. It owns no goroutine, no lock and no clock.
//
// Its rule: each value, in an answer or in a signal, is true at its position in the stream. So the
// later value of a property replaces the earlier one, from either source, and nothing goes back in
// time.
type watcher struct {
	glob string // of path.Match
	keep []string
	full []string // properties of a read that follows a listing
	rest []string // those that PID 1 does not signal; any other read

	signalled []string // what is taken out of PropertiesChanged

	// passesFailed is set below systemd 254, which knows no RestartMode=: there, a unit that is
	// restarted is "failed" first, for no longer than service_enter_dead (src/core/service.c)
	// takes. No answer shows that state, but PID 1 may signal it: it sends a change before the end
	// of a job.
	passesFailed bool

	units  map[string]*watched
	checks map[string]bool // pending look-ups
	listed bool
	synced bool
	first  map[string]struct{} // listed units whose first read is pending
}

// watched is a loaded unit that the watcher tracks.
type watched struct {
	name  string
	props properties
	whole bool     // a full read is complete, and no UnitRemoved came since
	shown bool     // the consumer knows it
	last  Status   // as delivered last
	read  *reading // the pending read, or nil

	// passing is set while a signal says that the unit failed and no answer has confirmed it.
	passing bool

	// held is set from the failure of a start until why it failed is read: the exit status of the
	// readiness gate is not signalled, and without it the failure has a wrong reason.
	held bool
}

// reading is one read of several properties; it is known by its address.
type reading struct {
	unit       string
	properties []string   // asked for in this order
	left       int        // pending answers
	run        properties // of runIdentity, as answered first
	torn       bool       // another run began, or a restart was queued, during the read
	next       []string   // to read afterwards, because the answers may be too old to show it
}

// action is one thing to do; exactly one field is set.
type action struct {
	read    *reading // ask for its properties; answer each with watcher.value
	check   string   // list the units of this name, without loading it; answer with watcher.checked
	deliver *Update  // hand to the consumer
}

// listedUnit is a unit in a listing. Its values, too, are true at their position in the stream.
type listedUnit struct {
	name, loadState, activeState, subState string
	jobID                                  uint32
}

const (
	notFound = "not-found" // the LoadState of a unit without a file
	// The SubState of a unit that PID 1 will restart.
	failedBeforeRestart = "failed-before-auto-restart"
	deadBeforeRestart   = "dead-before-auto-restart"
	startLimitHit       = "start-limit-hit" // the Result of a unit at its start limit, mostly
)

// newWatcher makes an empty watcher; known reports which properties this PID 1 has.
func newWatcher(pattern string, keep []string, known func(property string) bool) *watcher {
	missing := func(name string) bool { return !known(name) }
	keep = append([]string{}, keep...)
	return &watcher{
		glob: globOf(pattern),
		keep: keep,

		passesFailed: missing("RestartMode"),

		signalled: slices.Concat(listedProperties(), statusProperties(), keep),

		full: slices.DeleteFunc(slices.Concat(statusProperties(), runProperties(), keep, []string{"LoadState"}),
			missing),
		rest:   slices.DeleteFunc(slices.Concat(unsignalledProperties(), keep, []string{"LoadState"}), missing),
		units:  make(map[string]*watched),
		checks: make(map[string]bool),
		first:  make(map[string]struct{}),
	}
}

// globOf converts a pattern of PID 1 for path.Match. PID 1 knows no escapes (fnmatch(3) with
// FNM_NOESCAPE): a backslash, as in a name's \x2d, is literal.
func globOf(pattern string) string { return strings.ReplaceAll(pattern, `\`, `\\`) }

// onlyName reports whether a unit in these states is nothing but a name. One whose file was deleted
// before PID 1 reloaded is more, as long as it has not ended.
func onlyName(loadState, activeState string) bool {
	return loadState == notFound && (activeState == "inactive" || activeState == "")
}

// matches reports whether the unit is one to watch.
func (w *watcher) matches(name string) bool {
	ok, err := path.Match(w.glob, name)
	return err == nil && ok
}

// list handles the answer to the first listing.
func (w *watcher) list(units []listedUnit) []action {
	w.listed = true
	var actions []action
	for _, u := range units {
		if onlyName(u.loadState, u.activeState) || !w.matches(u.name) || w.units[u.name] != nil {
			continue
		}
		w.first[u.name] = struct{}{}
		actions = append(actions, w.take(u)...)
	}
	return append(actions, w.syncWhenDone()...)
}

// look looks up one name, unless an answer is pending.
func (w *watcher) look(name string) []action {
	if w.checks[name] {
		return nil
	}
	w.checks[name] = true
	return []action{{check: name}}
}

// checked handles the answer to the look-up of one name.
func (w *watcher) checked(name string, units []listedUnit) []action {
	delete(w.checks, name)
	for _, l := range units {
		if l.name == name && !onlyName(l.loadState, l.activeState) {
			return w.take(l)
		}
	}
	return w.drop(name)
}

// take records a unit of a listing, and reads the rest of it.
func (w *watcher) take(l listedUnit) []action {
	u := w.units[l.name]
	if u == nil {
		u = &watched{name: l.name, props: make(properties, len(w.full)+3)}
		w.units[l.name] = u
	}
	u.props["ActiveState"], u.props["SubState"], u.props["Job"] = l.activeState, l.subState, l.jobID
	u.passing = false
	return w.ask(u, w.full)
}

// ask starts a read, or lets another follow the pending one.
func (w *watcher) ask(u *watched, names []string) []action {
	if r := u.read; r != nil {
		if len(names) > len(r.next) { // full contains rest
			r.next = names
		}
		return nil
	}
	if !u.whole {
		names = w.full
	}
	u.read = &reading{unit: u.name, properties: names, left: len(names)}
	return []action{{read: u.read}}
}

// value handles the answer to one property of a read; nil when the unit has no such property.
func (w *watcher) value(r *reading, name string, value any) []action {
	u := w.units[r.unit]
	if u == nil || u.read != r {
		return nil // the queried unit is gone
	}
	if value != nil {
		u.props[name] = compact(name, value)
		r.compare(name, value)
	}
	if name == "SubState" {
		u.passing = false
	}
	if r.left--; r.left > 0 {
		return nil
	}
	u.read = nil
	// A query about a unit that is gone makes PID 1 load it again, as an empty one. LoadState comes
	// last, so that it shows this for all values before it.
	if state := u.props.str("LoadState"); state == "" || onlyName(state, u.props.str("ActiveState")) {
		return w.drop(u.name)
	}
	if r.torn {
		return w.ask(u, w.full)
	}
	u.whole, u.held = true, false
	delete(w.first, u.name)
	actions := w.show(u)
	if r.next != nil {
		actions = append(actions, w.ask(u, r.next)...)
	}
	return append(actions, w.syncWhenDone()...)
}

// compare records whether a property that identifies the run changed during the read.
func (r *reading) compare(name string, value any) {
	if !slices.Contains(runIdentity(), name) {
		return
	}
	if first, again := r.run[name]; again {
		r.torn = r.torn || !reflect.DeepEqual(first, value)
		return
	}
	if r.run == nil {
		r.run = make(properties)
	}
	r.run[name] = value
}

// unitNew handles UnitNew. The unit is looked up before it is read, because a query about a unit
// that is gone loads it, which makes PID 1 send UnitNew: an endless loop.
//
// PID 1 sends UnitNew instead of the unit's first PropertiesChanged. A unit that is known
// already, from a listing, may have changed since it was read, so it is looked up all the same.
func (w *watcher) unitNew(name string) []action {
	if !w.listed || !w.matches(name) {
		return nil
	}
	return w.look(name)
}

// unitRemoved handles UnitRemoved. It is not final: at a daemon-reload PID 1 sends it for every
// unit, and then UnitNew, while all of them keep running. A look-up decides; PID 1 answers it after
// the reload.
func (w *watcher) unitRemoved(name string) []action {
	u := w.units[name]
	if u == nil {
		return nil
	}
	u.whole, u.read = false, nil
	return w.look(name)
}

// changed handles PropertiesChanged. PID 1 sends the Service interface first and then the Unit
// interface, and promises that order so that a client can take both as one change (systemd,
// src/core/dbus-unit.c, send_changed_signal): the update goes out with the second.
func (w *watcher) changed(name, iface string, values properties) []action {
	u := w.units[name]
	if u == nil {
		return w.changedUnknown(name, iface, values)
	}
	if id, ok := values["InvocationID"]; ok && !reflect.DeepEqual(id, u.props["InvocationID"]) {
		// A new start clears how the commands of the previous one ended, and PID 1 does not signal
		// that.
		for _, list := range exitLists() {
			delete(u.props, list)
		}
	}
	before := u.props.status(name, w.keep)
	for key, value := range values {
		u.props[key] = compact(key, value)
	}
	if iface != unitInterface {
		return nil
	}
	now, wanted := u.props.status(name, w.keep), w.rest
	if changedState(before, now) {
		if u.passing = w.passesFailed && mayPass(now); u.passing {
			wanted = w.full
		}
	}
	reads := !w.checks[name] && wantsRead(before, now)
	u.held = (u.held || reads) && failedInStart(now)
	actions := w.show(u)
	if reads {
		actions = append(actions, w.ask(u, wanted)...)
	}
	return actions
}

// failedInStart reports whether a unit's last run ended badly before it was active.
func failedInStart(st Status) bool {
	return !st.WasActive && (st.ActiveState == "failed" || strings.HasPrefix(st.SubState, "auto-restart"))
}

// changedUnknown looks up a unit that changed although it was not known.
func (w *watcher) changedUnknown(name, iface string, values properties) []action {
	if iface != unitInterface {
		return nil
	}
	if values.str("ActiveState") == "inactive" && values.jobID() == 0 {
		return nil // an empty unit that a client's query has loaded
	}
	return w.unitNew(name)
}

// wantsRead reports whether a change may have touched properties that PID 1 does not signal: exit
// details and the next delay when a run ended, the control group when one began.
func wantsRead(before, now Status) bool {
	if now.ControlGroup == "" && now.MainPID > 0 {
		return true
	}
	return changedState(before, now) && (now.ActiveState == "failed" || now.ActiveState == "inactive" ||
		strings.HasPrefix(now.SubState, "auto-restart"))
}

// changedState reports whether a unit has changed its state. Signals are merged: of failed,
// started, failed again only the last may be seen.
func changedState(before, now Status) bool {
	return before.InvocationID != now.InvocationID || !before.StateChange.Equal(now.StateChange) ||
		before.ActiveState != now.ActiveState || before.SubState != now.SubState
}

// mayPass reports whether a unit that is signalled as failed, or as dead after its process ended by
// itself, may be on its way to a restart. PID 1 restarts none that it was asked to stop, or whose
// start limit it applied.
func mayPass(st Status) bool {
	if st.SubState == "dead" {
		return st.EndedFirst && st.Result == "success" && st.JobID == 0
	}
	return st.SubState == "failed" && st.Result != startLimitHit && !st.FailedInStop()
}

// refresh reads a unit again after one of our calls changed it without a signal.
func (w *watcher) refresh(name string) []action {
	if u := w.units[name]; u != nil {
		return w.ask(u, w.rest)
	}
	return nil
}

// show delivers a unit that is known whole and whose status differs from the one delivered last.
func (w *watcher) show(u *watched) []action {
	if !w.synced || !u.whole || u.held {
		return nil
	}
	st := w.status(u)
	if u.shown && reflect.DeepEqual(st, u.last) {
		return nil
	}
	u.last, u.shown = st, true
	return []action{{deliver: &Update{Kind: Changed, Unit: st, Name: u.name}}}
}

// status is what the consumer gets of a unit: one that may be on its way to a restart has the
// SubState that systemd 254 and later give it.
func (w *watcher) status(u *watched) Status {
	st := u.props.status(u.name, w.keep)
	if u.passing {
		st.SubState = failedBeforeRestart
		if st.ActiveState == "inactive" {
			st.SubState = deadBeforeRestart
		}
	}
	return st
}

func (w *watcher) drop(name string) []action {
	u := w.units[name]
	if u == nil {
		return nil
	}
	delete(w.units, name)
	delete(w.first, name)
	u.held = false
	if u.shown {
		return []action{{deliver: &Update{Kind: Removed, Name: name}}}
	}
	return w.syncWhenDone()
}

// syncWhenDone delivers everything at once when the last first read is complete.
func (w *watcher) syncWhenDone() []action {
	if w.synced || !w.listed || len(w.first) > 0 {
		return nil
	}
	w.synced = true
	all := make([]Status, 0, len(w.units))
	for _, name := range slices.Sorted(maps.Keys(w.units)) {
		if u := w.units[name]; u.whole {
			u.last, u.shown = w.status(u), true
			all = append(all, u.last)
		}
	}
	return []action{{deliver: &Update{Kind: Synced, Units: all}}}
}
