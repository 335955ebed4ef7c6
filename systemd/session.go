package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/godbus/dbus/v5"
)

// window is how many of the session's own calls may be unanswered at a time. See callBudget.
const window = 48

// session runs one connection: it watches the owner of PID 1's name, and for each owner it
// subscribes, lists and reads, and then follows the signals. All fields belong to run's goroutine.
type session struct {
	link     *link
	log      *slog.Logger
	pattern  string
	keep     []string
	emit     func(delivery)
	publish  func(*link) // makes the link usable for callers; nil removes it
	order    order
	replies  chan *dbus.Call
	inflight map[*dbus.Call]request
	backlog  []request

	at       dbus.Sequence // of the message that is handled
	owner    string        // unique name of PID 1; empty while its name has no owner
	epoch    int           // counts owners: answers of an earlier one are ignored
	watch    *watcher
	features Features
}

// request is one of the session's own calls.
type request struct {
	epoch  int
	dest   string
	path   dbus.ObjectPath
	iface  string
	member string
	args   []any
	done   func(body []any, err error) error // an error ends the session
}

// run works until the connection is lost or an unexpected answer arrives. It always returns an
// error.
func (s *session) run(ctx context.Context) error {
	defer s.publish(nil)
	s.watchOwner()
	for {
		s.send()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.link.conn.Context().Done():
			return ErrDisconnected
		case <-s.link.signals.wake:
		case <-s.link.touched.wake:
			s.handleTouched()
			continue
		case <-s.link.passing.wake:
			if err := s.pass(); err != nil {
				return err
			}
			continue
		case call := <-s.replies:
			s.order.held = append(s.order.held, message{seq: call.ResponseSequence, reply: call})
		}
		if err := s.handleMessages(); err != nil {
			return err
		}
	}
}

func (s *session) handleMessages() error {
	for more := true; more; {
		var ready []message
		ready, more = s.order.next(s.takeReplies, s.link.signals.take)
		for _, m := range ready {
			if err := s.handle(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) takeReplies() []message {
	var out []message
	for {
		select {
		case call := <-s.replies:
			out = append(out, message{seq: call.ResponseSequence, reply: call})
		default:
			return out
		}
	}
}

// pass handles what had arrived before a caller's answer did, and then lets the caller know when
// the consumer has the updates of it: godbus hands out each message before it reads the following
// one.
func (s *session) pass() error {
	waiting := s.link.passing.take()
	if err := s.handleMessages(); err != nil {
		return err
	}
	for _, passed := range waiting {
		s.emit(delivery{passed: passed})
	}
	return nil
}

func (s *session) handle(m message) error {
	s.at = m.seq
	if m.signal != nil {
		return s.handleSignal(m.signal)
	}
	r, ok := s.inflight[m.reply]
	if !ok {
		return nil
	}
	delete(s.inflight, m.reply)
	if r.epoch != s.epoch {
		return nil
	}
	return r.done(m.reply.Body, callFailed(r.member, m.reply.Err))
}

// request queues a call to PID 1.
func (s *session) request(path dbus.ObjectPath, iface, member string, done func([]any, error) error, args ...any) {
	s.backlog = append(s.backlog, request{s.epoch, busName, path, iface, member, args, done})
}

// send writes queued calls as far as the window allows.
func (s *session) send() {
	for len(s.backlog) > 0 && len(s.inflight) < window {
		r := s.backlog[0]
		s.backlog = s.backlog[1:]
		if r.epoch != s.epoch {
			continue
		}
		s.link.calls.Add(1)
		call := s.link.conn.Object(r.dest, r.path).GoWithContext(s.link.ctx, r.iface+"."+r.member,
			dbus.FlagNoAutoStart, s.replies, r.args...)
		s.inflight[call] = r
	}
}

// matchRules name the sender, so that the bus drops what others broadcast under systemd's
// interface. They match PropertiesChanged of all units: a rule for each of ours would exceed
// dbus-daemon's limit of 512 rules a connection (max_match_rules_per_connection in system.conf).
func matchRules() []string {
	const manager = "type='signal',sender='" + busName + "',path='" + managerPath + "',interface='" + managerInterface +
		"',member="
	const changed = "type='signal',sender='" + busName + "',path_namespace='" + managerPath + "/unit',interface='" +
		propsInterface + "',member='PropertiesChanged',arg0="
	return []string{
		"type='signal',sender='" + driverName + "',interface='" + driverInterface + "',member='NameOwnerChanged',arg0='" + busName + "'",
		manager + "'UnitNew'",
		manager + "'UnitRemoved'",
		manager + "'JobRemoved'",
		changed + "'" + serviceInterface + "'",
		changed + "'" + unitInterface + "'",
	}
}

// watchOwner asks the bus for signals and for the owner of PID 1's name.
func (s *session) watchOwner() {
	driver := func(member string, done func([]any, error) error, args ...any) {
		s.backlog = append(s.backlog, request{s.epoch, driverName, driverPath, driverInterface, member, args, done})
	}
	for _, rule := range matchRules() {
		driver("AddMatch", func(_ []any, err error) error { return err }, rule)
	}
	driver("GetNameOwner", func(body []any, err error) error {
		var e *CallError
		if errors.As(err, &e) && e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" {
			s.log.Info("PID 1 is not on the message bus yet")
			return nil // NameOwnerChanged follows
		}
		var owner string
		if err := store(body, err, &owner); err != nil {
			return err
		}
		s.follow(owner)
		return nil
	}, busName)
}

// ownerChanged handles NameOwnerChanged: PID 1 left the bus (it reexecutes, or it lost its own
// connection), or came back without its subscriptions.
func (s *session) ownerChanged(owner string) {
	if owner == s.owner {
		return
	}
	if s.owner != "" {
		s.publish(nil) // before the loss, see Client.expectJob
		s.link.jobs.lose()
		s.deliver(Update{Kind: Lost, Err: fmt.Errorf("PID 1 left the message bus: %w", ErrDisconnected)})
	}
	s.owner, s.watch = "", nil
	s.epoch++
	if owner != "" {
		s.follow(owner)
	}
}

// follow subscribes at an owner and reads everything. The answers come in this order; callers get
// the link when all is known.
func (s *session) follow(owner string) {
	s.owner = owner
	s.epoch++
	s.request(managerPath, managerInterface, "Subscribe", func(_ []any, err error) error {
		var e *CallError
		if errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.AlreadySubscribed" {
			return nil
		}
		return err
	})
	s.requestVersion()
	s.requestFeatures(func() {
		s.watch = newWatcher(s.pattern, s.keep, s.features.Has)
		s.requestList(s.pattern, s.watch.list)
	})
}

func (s *session) requestVersion() {
	s.request(managerPath, propsInterface, "Get", func(body []any, err error) error {
		var version dbus.Variant
		if err := store(body, err, &version); err != nil {
			return err
		}
		s.features.Version, _ = version.Value().(string)
		return nil
	}, managerInterface, "Version")
}

func (s *session) requestFeatures(done func()) {
	// Any service will do; the journal's is part of every systemd.
	s.request(unitPath("systemd-journald.service"), "org.freedesktop.DBus.Introspectable", "Introspect",
		func(body []any, err error) error {
			var document string
			if err := store(body, err, &document); err != nil {
				return err
			}
			f, err := parseFeatures(document)
			if err != nil {
				return err
			}
			f.Version = s.features.Version
			s.features = f
			done()
			return nil
		})
}

func (s *session) requestList(pattern string, done func([]listedUnit) []action) {
	s.request(managerPath, managerInterface, "ListUnitsByPatterns", func(body []any, err error) error {
		rows, err := listedRows(body, err)
		if err != nil {
			return err
		}
		units := make([]listedUnit, 0, len(rows))
		for _, r := range rows {
			units = append(units, listedUnit{r.Name, r.Load, r.Active, r.Sub, r.JobID})
		}
		s.act(done(units))
		return nil
	}, []string{}, []string{pattern})
}

// listedRow is an element of the answer of ListUnitsByPatterns (org.freedesktop.systemd1(5)).
type listedRow struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func listedRows(body []any, err error) (rows []listedRow, _ error) {
	err = store(body, err, &rows)
	return rows, err
}

// act executes the watcher's actions.
func (s *session) act(actions []action) {
	for _, a := range actions {
		switch {
		case a.read != nil:
			s.requestRead(a.read)
		case a.check != "":
			name := a.check
			s.requestList(name, func(units []listedUnit) []action { return s.watch.checked(name, units) })
		case a.deliver != nil:
			s.deliver(*a.deliver)
		}
	}
}

func (s *session) deliver(u Update) {
	if u.Kind == Synced {
		u.Features = s.features
		s.link.interfaces = s.features.interfaces
		s.publish(s.link)
	}
	u.Position = s.link.positionOf(s.at)
	s.emit(delivery{update: u})
}

// requestRead requests each property of a read.
func (s *session) requestRead(r *reading) {
	for _, name := range r.properties {
		s.request(unitPath(r.unit), propsInterface, "Get", func(body []any, err error) error {
			var value dbus.Variant
			switch {
			case absent(err) && name == "LoadState":
				value = dbus.MakeVariant(notFound)
			case absent(err): // this unit, or its type, has no such property
			default:
				if err := store(body, err, &value); err != nil {
					return err
				}
			}
			s.act(s.watch.value(r, name, value.Value()))
			return nil
		}, s.features.interfaces[name], name)
	}
}

func (s *session) handleTouched() {
	for _, name := range s.link.touched.take() {
		if s.watch != nil {
			s.act(s.watch.refresh(name))
		}
	}
}

// handleSignal checks a signal's sender: match rules drop the broadcasts of others, but any client
// of the bus may send a signal directly to us.
func (s *session) handleSignal(sig *dbus.Signal) error {
	if sig.Sender == driverName {
		if sig.Name == driverInterface+".NameOwnerChanged" {
			var name, former, owner string
			if dbus.Store(sig.Body, &name, &former, &owner) == nil && name == busName {
				s.ownerChanged(owner)
			}
		}
		return nil
	}
	if s.owner == "" || sig.Sender != s.owner || s.watch == nil {
		return nil
	}
	switch sig.Name {
	case managerInterface + ".JobRemoved":
		s.jobRemoved(sig)
	case managerInterface + ".UnitNew":
		s.act(s.unitSignal(sig, s.watch.unitNew))
	case managerInterface + ".UnitRemoved":
		s.act(s.unitSignal(sig, s.watch.unitRemoved))
	case propsInterface + ".PropertiesChanged":
		s.act(s.propertiesChanged(sig))
	}
	return nil
}

func (s *session) jobRemoved(sig *dbus.Signal) {
	var id uint32
	var job dbus.ObjectPath
	var unit, result string
	if err := dbus.Store(sig.Body, &id, &job, &unit, &result); err != nil {
		s.log.Warn("JobRemoved has an unknown form", "error", err)
		return
	}
	s.link.jobs.removed(job, result)
}

func (s *session) unitSignal(sig *dbus.Signal, handle func(string) []action) []action {
	if len(sig.Body) == 0 {
		return nil
	}
	name, _ := sig.Body[0].(string)
	return handle(name)
}

func (s *session) propertiesChanged(sig *dbus.Signal) []action {
	name, ok := unitName(sig.Path)
	if !ok || !s.watch.matches(name) || len(sig.Body) < 2 {
		return nil
	}
	iface, _ := sig.Body[0].(string)
	values, _ := sig.Body[1].(map[string]dbus.Variant)
	if iface != unitInterface && iface != serviceInterface {
		return nil
	}
	return s.watch.changed(name, iface, unwrapWanted(values, s.watch.signalled))
}

// store reads an answer's body.
func store(body []any, err error, into ...any) error {
	if err != nil {
		return err
	}
	if err := dbus.Store(body, into...); err != nil {
		return fmt.Errorf("an answer has an unknown form: %w", err)
	}
	return nil
}
