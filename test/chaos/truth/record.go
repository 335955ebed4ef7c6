// Package truth checks a history of observations of a host against what must hold whatever happens
// to it: no engine is restarted without cause, no lease is lost or counted twice, no port and no
// memory is reserved twice, what is ready answers, what is not ready names its reason, and nothing
// grows.
//
// It owns the rules and the form of the observations. It is pure: it reads no clock, no file and no
// network, and must not know how a fault is made; what a fault may change is part of the history.
package truth

import (
	"strings"
	"time"
)

// Record is one observation. One of its pointers is set. Records are in the order in which things
// happened, except that the requests of a Lease may overlap what is recorded beside it.
type Record struct {
	At time.Duration `json:"at"` // since the witness began, by the monotonic clock

	Begin   *Begin   `json:"begin,omitempty"`
	Look    *Look    `json:"look,omitempty"`
	Lease   *Lease   `json:"lease,omitempty"`
	Settled *Settled `json:"settled,omitempty"`
	Echo    *Echo    `json:"echo,omitempty"`
}

// Echo is the witness's answer to a command: it has been carried out. The counts are since it
// began.
type Echo struct {
	Command int `json:"command"`
	Uses    int `json:"uses"`   // of pools by lease
	Failed  int `json:"failed"` // of these
	Events  int `json:"events"` // that the streams have received
}

// Begin begins a round: from here until it has settled, these faults may have their effects.
type Begin struct {
	Round int
	// May has how many new engine processes each pool may have at most. The engines of all other
	// pools stay the same processes.
	May map[string]int
	// Unchecked allows that these pools are started though there is no memory for them, as long as
	// they do not run: while nothing answers for the GPUs, a start is not kept waiting.
	Unchecked []string
	// Lines is how many lines more the manager may log.
	Lines int
	// Refuses allows that leases and requests are refused with STATE_NOT_SAVED.
	Refuses bool
}

// Look is one look at everything, a few times a second.
type Look struct {
	API       string    `json:"api,omitempty"` // why the API did not answer
	Pools     []Pool    `json:"pools,omitempty"`
	Processes []Process `json:"processes,omitempty"` // engines, found in /proc
	Answers   []Answer  `json:"answers,omitempty"`   // of each engine that the API calls ready
	Files     []File    `json:"files,omitempty"`     // hand-off files
}

// Pool is a pool as GET /v1/pools has it.
type Pool struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	Ready     bool      `json:"ready"`
	LastError string    `json:"last_error"`
	Hint      string    `json:"hint"`
	Leases    int       `json:"active_leases"`
	Total     int       `json:"slots_total"`
	Free      int       `json:"slots_free"`
	Replicas  []Replica `json:"replicas"`
}

// Replica is one engine of a pool.
type Replica struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Ready    bool   `json:"ready"`
	Unit     string `json:"unit"`
	Endpoint string `json:"endpoint"`
	PID      int    `json:"pid"`
}

// Process is an engine's process. Two with one PID differ in when they were started.
type Process struct {
	Unit  string `json:"unit"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since the boot, of /proc/PID/stat
}

// Answer is what an engine answered to the probe of the witness.
type Answer struct {
	Unit     string `json:"unit"`
	Endpoint string `json:"endpoint"`
	PID      int    `json:"pid,omitempty"`   // of the process that answered, by itself
	Error    string `json:"error,omitempty"` // "" when it was healthy
}

// File is a hand-off file.
type File struct {
	Name  string `json:"name"`
	Pool  string `json:"pool,omitempty"`
	PID   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"` // it is not whole
}

// What became of a request about a lease.
const (
	Granted  = "granted"
	Renewed  = "renewed"
	Released = "released"
	Lost     = "lost"    // 410 or 404
	Refused  = "refused" // any other answer: nothing was changed
	Unknown  = "unknown" // no answer: it may have been carried out, or not
)

// Lease is one request about a lease, recorded when its answer came.
type Lease struct {
	Did    string        `json:"did"`
	Asked  string        `json:"asked"` // Granted, Renewed or Released: what was requested
	Pool   string        `json:"pool"`
	ID     string        `json:"id,omitempty"` // not known of a request that got no answer
	Holder string        `json:"holder"`       // unique to each lease
	Sent   time.Duration `json:"sent"`         // when the request was sent
	TTL    time.Duration `json:"ttl,omitempty"`
	Code   string        `json:"code,omitempty"` // of a refusal
}

// Settled ends a round. No request is under way, and none will be sent until the next begin.
type Settled struct {
	Round int
	// Unready is what has not come back within the bound for it.
	Unready string
	Look    Look
	Units   []Unit
	Held    []Held  // every lease that the API lists
	Manager Manager // its process
	Journal int     // lines of the manager and its helper since the run began
}

// Unit is a unit as PID 1 has it.
type Unit struct {
	Name       string
	PID        int
	Invocation string
	Restarts   int
}

// Held is a lease that the API lists.
type Held struct {
	Pool   string `json:"pool_id"`
	ID     string `json:"lease_id"`
	Holder string `json:"holder"`
}

// Manager is what the manager's process uses.
type Manager struct {
	PID, RSSKiB, Descriptors, Goroutines int
}

// PoolOf is the pool of an engine's unit, "pool-engine@POOL.rN.service" or with a "b" behind N.
func PoolOf(unit string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(unit, "pool-engine@"), ".service")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}
