package engine

import (
	"errors"
	"math"
)

// Run is how an engine would load a model in GGUF, as far as its memory depends on it, with the
// engine's own defaults filled in.
type Run struct {
	Ctx           int // tokens of all slots together; 0: not given
	Slots         int
	Batch, UBatch int
	Layers        int    // on the devices, the output layer counted as one; AllLayers or more: all
	Single        bool   // one device has all of it
	Main          int    // that device, as a position in the mask
	K, V          string // types of the KV cache, of CacheTypes
	Flash         bool   // flash attention
	KVOnHost      bool
	Mapped        bool // the file is mapped, not read into memory
	FullSWA       bool
	Beside        []string // further files that are loaded whole: draft model, projector, adapters
}

// AllLayers is more than any model has.
const AllLayers = 999

// Bounds of what an operator may write; the arithmetic with them is in 64 bits.
const (
	MaxCtx   = math.MaxInt32 / 2
	maxBatch = 1 << 20
)

// errNoGGUF is what Run returns for an engine that does not load GGUF.
var errNoGGUF = errors.New("the engine loads no GGUF file")
