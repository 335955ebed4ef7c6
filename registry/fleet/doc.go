// Package fleet is what a host publishes of itself: it follows the manager of this host by
// its API, as any reader does, and hands each state on to those that publish it.
//
// It owns when the API is asked, and how long an answer is believed. It must not know where a state
// is published (package notify), and nothing of how an engine is run.
package fleet

import "github.com/pool-managerd/pool-managerd/registry/api/wire"

// Host is who a host is. It does not change while the program runs.
type Host struct {
	MachineID string // of /etc/machine-id
	BootID    string
	Name      string // its host name
	Address   string // URL of its API for other hosts; empty: it has none
	Version   string // of this program
	CPUs      int
	RAMBytes  uint64
}

// State is what a manager reported. Its values are not changed after it was delivered.
type State struct {
	Known   bool // false: the manager has not answered for Credible, and nothing else is set
	Pools   []wire.Pool
	Devices wire.DeviceList
	Models  []wire.CachedModel // in the cache; nil: not known
}

// Mailbox holds the newest state for one reader. A state that the reader did not take is replaced:
// who publishes slowly publishes what is true then. It has one writer. Make one with NewMailbox.
type Mailbox chan State

// NewMailbox returns an empty mailbox.
func NewMailbox() Mailbox { return make(Mailbox, 1) }

// Put replaces the state. It never waits.
func (m Mailbox) Put(s State) {
	select {
	case <-m:
	default:
	}
	m <- s
}
