// Package memory determines how much memory a replica needs on each GPU and on the host, and how
// much the host has, and reports when there is too little.
//
// It owns these numbers and their sources. It must not start anything or hold a connection: the
// free memory of a GPU is an argument.
package memory

import "github.com/pool-managerd/pool-managerd/units/devices"

// Source is the origin of a need. The first that applies wins, in the order of the constants.
type Source string

// The sources.
const (
	Configured Source = "configured" // the key vram of the pool file, spread over the mask
	Measured   Source = "measured"   // the peak of an earlier run with the same model, engine version and flags
	Claimed    Source = "claimed"    // the engine takes a share of each GPU whatever the model
	Estimated  Source = "estimated"  // computed from the model's files
	Unknown    Source = "unknown"    // nothing is known, so nothing is checked
)

// Need is the memory of one replica while it serves, in bytes. It is a value: its map and slice are
// not modified.
type Need struct {
	// Devices is the need by the UUID of each target. It is empty for a CPU replica and if Source
	// is Unknown.
	Devices map[string]uint64
	// Host is main memory, mapped weights included; 0: unknown, not checked.
	Host uint64
	// Mapped is the part of Host that is the model's file mapped into memory: the kernel can drop
	// and reread it, so too little memory makes the engine slow but does not kill it.
	Mapped uint64
	// Parts add up to Devices and Host if Source is Estimated; otherwise they are additional
	// information about the model.
	Parts  []Part
	Source Source // of Devices; of Host for a CPU replica
	// Ctx is the context for which Parts were computed, in tokens of all slots together; Trained is
	// the longest context of one request that the model was trained for. 0: unknown.
	Ctx, Trained uint64
	// ClaimFlag is the engine's flag that lowers the need if Source is Claimed.
	ClaimFlag string
	// Why describes what the source could not determine; empty: nothing.
	Why string
	// Raised is set where the load before ended for want of memory, and more is needed than Source
	// says. Devices is that need then; Host is not, see MainMemory.
	Raised *RaisedNeed
}

// Part is one component that takes memory.
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
func (n Need) Known() bool { return len(n.Devices) > 0 || n.MainMemory() > 0 }

// Total returns the need of all devices together, in bytes.
func (n Need) Total() uint64 {
	var sum uint64
	for _, b := range n.Devices {
		sum = saturated(sum, b)
	}
	return sum
}

// onDevices returns a Need with one number for each target, in the order of the mask.
func onDevices(source Source, targets []devices.Target, bytes []uint64) Need {
	n := Need{Source: source, Devices: make(map[string]uint64, len(targets))}
	for i, t := range targets {
		n.Devices[t.UUID] = bytes[i]
	}
	return n
}

// saturated adds without overflow.
func saturated(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return ^uint64(0)
}
