// Package wire is the protocol between pool-gpu and those who ask it: one JSON object a line over a
// unix stream socket, both ways. A client sends one Request as its first line. The helper answers a
// question with one Reply; a follower gets Replies until either side closes. A line is at most
// MaxLine bytes. Every line carries the protocol's version; a side that reads another one says so
// in Reply.Error (the helper) or gives up with an error that names both (the client).
//
// It owns the shapes. It must not dial, listen or know NVML's library.
package wire

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// Version of the protocol. A field that a peer may ignore does not raise it.
const Version = 1

// MaxLine bounds one line, in bytes: 16 GPUs of 7 partitions with a hundred processes each fit.
const MaxLine = 1 << 20

// Heartbeat bounds the silence of a helper that works: a follower hears at least one line within
// it, or within its interval where that is longer. A snapshot in which nothing but Taken changed is
// not sent more often than that needs.
const Heartbeat = 5 * time.Second

// Socket is where PID 1 listens for the helper.
const Socket = "/run/pool-managerd/gpu.sock"

// The operations.
const (
	OpFollow   = "follow"   // a snapshot now and at each interval, events and stalls at once
	OpSnapshot = "snapshot" // one snapshot, freshly sampled
	OpReserve  = "reserve"  // promise memory to the caller's unit, if there is enough
	OpRelease  = "release"  // give the promise back: the engine holds its memory now, or never will
)

// Request is a client's line.
type Request struct {
	Version int    `json:"pool_gpu"`
	Op      string `json:"op"`
	// IntervalMS is the time between samples for OpFollow; 0: the helper's own. The shortest of all
	// followers' holds.
	IntervalMS int64 `json:"interval_ms,omitempty"`
	// Needs are bytes by the UUID of a GPU or MIG partition, for OpReserve. The unit that reserves
	// is that of the caller's control group, or Unit where the caller is in none of an engine (the
	// daemon's own dry run).
	Needs map[string]uint64 `json:"needs,omitempty"`
	Unit  string            `json:"unit,omitempty"`
	// DryRun only asks whether the promise could be given.
	DryRun bool `json:"dry_run,omitempty"`
}

// Reply is one of the helper's lines. Exactly one field beside Version is set, but for Granted,
// which is false in the others.
type Reply struct {
	Version  int            `json:"pool_gpu"`
	Snapshot *nvml.Snapshot `json:"snapshot,omitempty"`
	Event    *nvml.Event    `json:"event,omitempty"`
	Stalled  *Stalled       `json:"stalled,omitempty"`
	Granted  bool           `json:"granted,omitempty"`
	Short    []Short        `json:"short,omitempty"` // why OpReserve was refused: each device that has too little
	Error    string         `json:"error,omitempty"` // the question itself was wrong
}

// Stalled reports whether an NVML call does not return. Snapshots follow again when it does.
type Stalled struct {
	Call  string    `json:"call"`
	Since time.Time `json:"since"`
}

// Short is one device that has too little memory, all in bytes.
type Short struct {
	Device   string   `json:"device"`
	Need     uint64   `json:"need_bytes"`
	Free     uint64   `json:"free_bytes"`               // as NVML says it
	Promised uint64   `json:"promised_bytes,omitempty"` // to units that are still loading
	Total    uint64   `json:"total_bytes,omitempty"`
	Holders  []Holder `json:"holders,omitempty"` // who has the rest, the largest first
}

// Holder is a unit or process that holds memory of a device, or to which it is promised.
type Holder struct {
	Unit     string `json:"unit,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Used     uint64 `json:"used_bytes,omitempty"`
	Promised uint64 `json:"promised_bytes,omitempty"`
}
