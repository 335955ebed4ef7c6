// Package wire is the protocol between pool-gpu and its clients: one JSON object per line over a
// unix stream socket, both ways. A client sends one Request as its first line. The helper answers a
// request with one Reply; a follower gets Replies until either side closes. A line is at most
// MaxLine bytes. Every line carries the protocol's version; on a mismatch the helper answers with
// Reply.Error, and the client returns an error that names both.
//
// It owns the messages. It must not dial, listen or know NVML's library.
package wire

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// Version of the protocol. A new field that a peer may ignore does not change it.
const Version = 1

// MaxLine bounds one line, in bytes: 16 GPUs of 7 partitions with a hundred processes each fit.
const MaxLine = 1 << 20

// Heartbeat bounds the time between lines of a working helper: a follower gets at least one line
// within it, or within its interval if that is longer. A snapshot in which only Taken changed is
// not sent more often than that.
const Heartbeat = 5 * time.Second

// Socket is the path at which PID 1 listens for the helper.
const Socket = "/run/pool-managerd/gpu.sock"

// The operations.
const (
	OpFollow   = "follow"   // a snapshot now and at each interval, events and stalls at once
	OpSnapshot = "snapshot" // one snapshot, freshly sampled
	OpReserve  = "reserve"  // reserve memory for the caller's unit, if there is enough
	OpRelease  = "release"  // end the reservation: the engine has its memory, or will not start
	OpHeld     = "held"     // which of Devices the processes of the caller's unit hold memory on
)

// Request is the line that a client sends.
type Request struct {
	Version int    `json:"pool_gpu"`
	Op      string `json:"op"`
	// IntervalMS is the time between samples for OpFollow; 0: the helper's own. The shortest of all
	// followers' intervals applies.
	IntervalMS int64 `json:"interval_ms,omitempty"`
	// Needs are bytes by the UUID of a GPU or MIG partition, for OpReserve. The memory is reserved
	// for the unit of the caller's control group, or for Unit if the caller is not in an engine's
	// unit (the daemon's own dry run).
	Needs map[string]uint64 `json:"needs,omitempty"`
	Unit  string            `json:"unit,omitempty"`
	// Devices are UUIDs of GPUs or MIG partitions, for OpHeld.
	Devices []string `json:"devices,omitempty"`
	// DryRun only checks whether the memory could be reserved.
	DryRun bool `json:"dry_run,omitempty"`
}

// Reply is a line that the helper sends. Exactly one field besides Version is set; Granted counts
// as set if true.
type Reply struct {
	Version  int            `json:"pool_gpu"`
	Snapshot *nvml.Snapshot `json:"snapshot,omitempty"`
	Event    *nvml.Event    `json:"event,omitempty"`
	Stalled  *Stalled       `json:"stalled,omitempty"`
	Granted  bool           `json:"granted,omitempty"`
	Short    []Short        `json:"short,omitempty"` // why OpReserve was refused: each device with too little memory
	Held     []Held         `json:"held,omitempty"`  // the answer to OpHeld, in the order of its Devices
	Error    string         `json:"error,omitempty"` // the request was invalid
}

// Held is what the processes of a unit, those in control groups below it included, hold of one
// device.
type Held struct {
	Device    string  `json:"device"`
	Processes int     `json:"processes"`            // of the unit; 0: none is listed
	Used      *uint64 `json:"used_bytes,omitempty"` // by those whose use the driver reports; nil: of none
	Unknown   string  `json:"unknown,omitempty"`    // why the absence of a process proves nothing; a clause
}

// Stalled reports that an NVML call does not return. Snapshots follow after it does.
type Stalled struct {
	Call  string    `json:"call"`
	Since time.Time `json:"since"`
}

// Short is one device that has too little memory, all in bytes.
type Short struct {
	Device   string   `json:"device"`
	Need     uint64   `json:"need_bytes"`
	Free     uint64   `json:"free_bytes"`               // as NVML reports it
	Reserved uint64   `json:"promised_bytes,omitempty"` // for units that are still loading
	Total    uint64   `json:"total_bytes,omitempty"`
	Holders  []Holder `json:"holders,omitempty"` // who uses the rest, the largest first
}

// Holder is a unit or process that uses memory of a device, or has reserved it. The field names in
// JSON are older than the term.
type Holder struct {
	Unit     string `json:"unit,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Used     uint64 `json:"used_bytes,omitempty"`
	Reserved uint64 `json:"promised_bytes,omitempty"`
}
