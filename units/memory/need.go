// Package memory knows how much memory a replica needs, of each GPU and of the host, and from where
// that is known; how much the host has; and the text in which too little of it is reported.
//
// It owns these numbers and their sources. It must not start anything, hold a connection, or know
// when it is asked: what is free on a GPU is handed to it.
package memory

import "github.com/pool-managerd/pool-managerd/units/devices"

// Source is from where a need is known. The first that applies wins, in the order of the constants.
type Source string

// The sources.
const (
	Configured Source = "configured" // the key vram of the pool file, spread over the mask
	Measured   Source = "measured"   // the peak of an earlier run with the same model, engine version and flags
	Claimed    Source = "claimed"    // the engine takes a share of each GPU whatever the model
	Estimated  Source = "estimated"  // computed from the model's files
	Unknown    Source = "unknown"    // nothing is known, and nothing is checked
)

// Need is what one replica takes while it serves, in bytes. It is a value: its map and slice are
// not written to again.
type Need struct {
	// Devices is the need by the UUID of each target. It is empty for a CPU replica and where
	// Source is Unknown.
	Devices map[string]uint64
	// Host is main memory, mapped weights included; 0: not known, and not checked.
	Host uint64
	// Mapped is the part of Host that is the model's file mapped into memory: the kernel can drop
	// and read it again, so that less than that makes an engine slow and does not kill it.
	Mapped uint64
	// Parts add up to Devices and Host where Source is Estimated; else they say what is known of
	// the model beside it.
	Parts  []Part
	Source Source // of Devices; of Host for a CPU replica
	// Ctx is the context that Parts were computed for, in tokens of all slots together; Trained the
	// longest that the model was trained for, of one request. 0: not known.
	Ctx, Trained uint64
	// ClaimFlag is the engine's flag that lowers the need where Source is Claimed.
	ClaimFlag string
	// Why is a clause on what the source could not find out; empty where it found everything.
	Why string
}

// Part is one thing that takes memory.
type Part struct {
	Name   string // PartWeights, …
	Device string // UUID of the target, "" for main memory
	Bytes  uint64
}

// The parts.
const (
	PartWeights = "weights"
	PartKV      = "kv-cache" // keys and values of every slot's context, and recurrent state
	PartCompute = "compute"  // the buffers of one batch's graph
	PartRuntime = "runtime"  // the engine itself: the CUDA context on a GPU; vocabulary and output rows in main memory
)

// Known reports whether there is anything to check.
func (n Need) Known() bool { return len(n.Devices) > 0 || n.Host > 0 }

// Total is the need of all devices together, in bytes.
func (n Need) Total() uint64 {
	var sum uint64
	for _, b := range n.Devices {
		sum = saturated(sum, b)
	}
	return sum
}

// onDevices makes a Need of one number for each target, in the order of the mask.
func onDevices(source Source, targets []devices.Target, bytes []uint64) Need {
	n := Need{Source: source, Devices: make(map[string]uint64, len(targets))}
	for i, t := range targets {
		n.Devices[t.UUID] = bytes[i]
	}
	return n
}

// saturated adds without wrapping around.
func saturated(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return ^uint64(0)
}
