package systemd

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
)

// watcher follows the units of one pattern. It is pure: it is told what came in, in the order of the
// connection, and returns what to do. It owns no goroutine, no lock and no clock.
//
// Its rule: an answer describes the state at its place in the stream. So an answer replaces the copy of a unit
// whole, a signal changes the copy, and neither can go back in time. A read that is out when a signal
// comes in will be answered later than that signal and needs no second read.
type watcher struct {
	glob   string // of path.Match
	keep   []string
	wanted map[string]struct{}

	units  map[string]*followed
	reads  map[string]*reading // reads that are out
	checks map[string]bool     // look-ups that are out
	listed bool
	synced bool
	// first holds the units of the listing whose first read is still out.
	first map[string]struct{}
}

type followed struct {
	props properties
	last  Status // as it was delivered last
}

type reading struct {
	again bool // something happened that the answer which is out may be too old to show
}

// action is one thing to do; exactly one field is set.
type action struct {
	read    string  // GetAll of this unit; answer with watcher.read
	check   string  // list the units of this name without loading it; answer with watcher.checked
	deliver *Update // hand to the consumer
}

// listedUnit is one element of a listing.
type listedUnit struct {
	name      string
	loadState string
}

func newWatcher(pattern string, keep []string) *watcher {
	if keep == nil {
		keep = []string{}
	}
	return &watcher{
		glob:   globOf(pattern),
		keep:   keep,
		wanted: wantedSet(keep),
		units:  make(map[string]*followed),
		reads:  make(map[string]*reading),
		checks: make(map[string]bool),
		first:  make(map[string]struct{}),
	}
}

// globOf gives a pattern of PID 1 to path.Match. PID 1 knows no escapes (fnmatch(3) with FNM_NOESCAPE): a
// backslash, as in a name's \x2d, stands for itself.
func globOf(pattern string) string { return strings.ReplaceAll(pattern, `\`, `\\`) }

// follows reports whether a unit is of interest.
func (w *watcher) follows(name string) bool {
	ok, err := path.Match(w.glob, name)
	return err == nil && ok
}

// list handles the answer to the first listing.
func (w *watcher) list(units []listedUnit) []action {
	w.listed = true
	var actions []action
	for _, u := range units {
		if u.loadState == "not-found" || !w.follows(u.name) {
			continue
		}
		w.first[u.name] = struct{}{}
		actions = append(actions, w.readAgain(u.name)...)
	}
	return append(actions, w.syncWhenDone()...)
}

// checked handles the answer to the look-up of one name.
func (w *watcher) checked(name string, units []listedUnit) []action {
	delete(w.checks, name)
	for _, u := range units {
		if u.name == name && u.loadState != "not-found" {
			return w.readOnce(name)
		}
	}
	return nil
}

// read handles the answer to a read; found is false when PID 1 has no such unit.
func (w *watcher) read(name string, props properties, found bool) []action {
	r := w.reads[name]
	if r == nil {
		return nil
	}
	delete(w.reads, name)
	delete(w.first, name)
	var actions []action
	if r.again {
		actions = w.readOnce(name)
	}
	// A read loads a unit that is gone, as an empty unit whose LoadState is "not-found".
	if !found || props.str("LoadState") == "not-found" {
		actions = append(actions, w.drop(name)...)
	} else {
		u := w.units[name]
		if u == nil {
			u = &followed{}
			w.units[name] = u
		}
		u.props = props
		actions = append(actions, w.show(name)...)
	}
	return append(actions, w.syncWhenDone()...)
}

// unitNew handles UnitNew. The unit is looked up before it is read, because a read of a unit that is gone
// again loads it, which makes PID 1 send UnitNew: the two would chase each other for ever.
func (w *watcher) unitNew(name string) []action {
	if !w.listed || !w.follows(name) || w.reads[name] != nil || w.checks[name] {
		return nil
	}
	w.checks[name] = true
	return []action{{check: name}}
}

// unitRemoved handles UnitRemoved.
func (w *watcher) unitRemoved(name string) []action {
	return w.drop(name)
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
		// A new start forgets how the commands of the former one ended, and PID 1 does not say so.
		delete(u.props, "ExecStartPostEx")
	}
	before := u.props.status(name, w.keep)
	maps.Copy(u.props, values)
	if iface != unitInterface {
		return nil
	}
	now := u.props.status(name, w.keep)
	actions := w.show(name)
	if w.synced && wantsRead(before, now) {
		actions = append(actions, w.readOnce(name)...)
	}
	return actions
}

// changedUnknown looks a unit up that shows signs of life although none was known.
func (w *watcher) changedUnknown(name, iface string, values properties) []action {
	if iface != unitInterface {
		return nil
	}
	if values.str("ActiveState") == "inactive" && values.jobID() == 0 {
		return nil // an empty unit that somebody's question has loaded
	}
	return w.unitNew(name)
}

// wantsRead reports whether a change may have touched properties that PID 1 does not signal: exit
// details and the next delay when a run ended, the control group when one began.
func wantsRead(before, now Status) bool {
	if now.ControlGroup == "" && now.MainPID > 0 {
		return true
	}
	if before.ActiveState == now.ActiveState && before.SubState == now.SubState {
		return false
	}
	return now.ActiveState == "failed" || now.ActiveState == "inactive" ||
		strings.HasPrefix(now.SubState, "auto-restart")
}

// refresh reads a unit again after a call of ours that changes it without a signal.
func (w *watcher) refresh(name string) []action {
	if w.units[name] == nil {
		return nil
	}
	return w.readAgain(name)
}

// readOnce reads a unit, unless an answer that will be new enough is on its way.
func (w *watcher) readOnce(name string) []action {
	if w.reads[name] != nil {
		return nil
	}
	w.reads[name] = &reading{}
	return []action{{read: name}}
}

// readAgain reads a unit after what was just done, even when an answer is on its way.
func (w *watcher) readAgain(name string) []action {
	if r := w.reads[name]; r != nil {
		r.again = true
		return nil
	}
	return w.readOnce(name)
}

// show delivers a unit whose status differs from the one delivered last.
func (w *watcher) show(name string) []action {
	if !w.synced {
		return nil
	}
	u := w.units[name]
	st := u.props.status(name, w.keep)
	if reflect.DeepEqual(st, u.last) {
		return nil
	}
	u.last = st
	return []action{{deliver: &Update{Kind: Changed, Unit: st, Name: name}}}
}

func (w *watcher) drop(name string) []action {
	if w.units[name] == nil {
		return nil
	}
	delete(w.units, name)
	if !w.synced {
		return nil
	}
	return []action{{deliver: &Update{Kind: Removed, Name: name}}}
}

// syncWhenDone delivers everything at once when the last first read was answered.
func (w *watcher) syncWhenDone() []action {
	if w.synced || !w.listed || len(w.first) > 0 {
		return nil
	}
	w.synced = true
	all := make([]Status, 0, len(w.units))
	for _, name := range slices.Sorted(maps.Keys(w.units)) {
		u := w.units[name]
		u.last = u.props.status(name, w.keep)
		all = append(all, u.last)
	}
	return []action{{deliver: &Update{Kind: Synced, Units: all}}}
}
