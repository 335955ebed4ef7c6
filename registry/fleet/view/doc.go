// Package view is the fleet as a reader of etcd sees it: it turns keys and their changes into hosts
// with their pools, and into what changed for those who follow it.
//
// It owns what may be shown. A pool is shown with its host or not at all: while the key of its
// host is missing, or cannot be read, its pools are hidden. A key decides whose a record is; a
// value that names another host or pool is not believed. What is kept has bounds. It is pure: it
// must not know how keys are read, or what the view is used for.
package view

import "github.com/pool-managerd/pool-managerd/registry/api/wire"

// Kind is what a batch is.
type Kind int

// Kinds of batches. A reader sends Begin, pages and End for a whole list, then changes in their
// order, and Lost once whenever the connection ended; a new list follows.
const (
	Begin   Kind = iota // a list begins
	Page                // keys of the list
	End                 // the list is complete, and replaces what was known
	Changed             // keys that changed after it
	Alive               // nothing changed, and etcd answers
	Lost                // what is known may have become old; Err is why
)

// KV is a key with its value.
type KV struct {
	Key   string
	Value []byte // nil: it was deleted
}

// Batch is what a reader of etcd got. All keys of one transaction are in one batch of changes.
type Batch struct {
	Kind     Kind
	KVs      []KV
	Revision int64 // of etcd
	Err      error
}

// Change is one host, pool or conflict that came, changed or went.
type Change struct {
	MachineID string
	Node      string // host name
	PoolID    string // of a pool
	BootID    string // of a conflict
	Gone      bool   // it is not in the view any longer, and the pointers are nil
	Host      *wire.FleetHost
	Pool      *wire.FleetPool
	Conflict  *wire.FleetConflict
}

// Bounds of what is kept, with room for some 25 000 pools. What a fleet has beyond them is left
// out, and the view is marked as truncated until the next whole list.
const (
	maxKeys  = 50_000
	maxBytes = 32 << 20 // of keys and values as they were read
	maxList  = 16 << 20 // the same, of lists of models
)
