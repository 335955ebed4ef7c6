package systemd

import (
	"cmp"
	"slices"

	"github.com/godbus/dbus/v5"
)

// message is a signal or the answer to a call, with its place among all messages that came in over
// the connection.
type message struct {
	seq    dbus.Sequence
	signal *dbus.Signal
	reply  *dbus.Call
}

// order puts signals and replies, which godbus delivers on two ways, back into the order of their
// arrival. Only that order is right: PID 1 writes both into one stream, so a reply describes a
// state no older than the signals before it and no newer than the signals after it.
type order struct {
	held []message // replies that came in after a signal that was not taken yet
}

// next returns the messages that can be handled now. replies takes the replies that arrived so far,
// signals the signals; godbus hands out each message before it reads the following one. So every
// signal before a reply of the first look is among the signals, and every reply before a signal is
// in one of the two looks. The rest is kept for the next call, which must follow at once if more is
// true.
func (o *order) next(replies func() []message, signals func() []message) (ready []message, more bool) {
	all := append(o.held, replies()...)
	bound := dbus.NoSequence
	for _, m := range all {
		bound = max(bound, m.seq)
	}
	for _, m := range signals() {
		bound = max(bound, m.seq)
		all = append(all, m)
	}
	all = append(all, replies()...)
	slices.SortStableFunc(all, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
	n := len(all)
	for n > 0 && all[n-1].seq > bound {
		n--
	}
	o.held = slices.Clone(all[n:])
	return all[:n], len(o.held) > 0
}
