package memory

import (
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Shares of each GPU that an engine claims where its arguments name none.
const (
	vllmShare      = 0.9  // --gpu-memory-utilization
	vllmShareSince = 0.92 // from 0.21 on
	tgiShare       = 1.0  // --cuda-memory-fraction; TGI leaves headroom within it by itself
	tgiHeadroom    = 0.95 // what a warm-up of TGI reaches of its share (TGI_WIGGLE_ROOM)
)

// claimed is the need of an engine that takes a share of each GPU whatever the model: vLLM refuses to start where less is free, TGI fills it with
// its cache. ok is false for the other engines, and where a target's size is not known.
func claimed(p pool.Pool, version string, targets []devices.Target) (need Need, ok bool) {
	var share float64
	switch p.Engine {
	case pool.VLLM:
		f := flagSet{args: p.Args, env: nil, underscores: true, equals: true}
		if f.given("", "--kv-cache-memory-bytes", "--kv-cache-memory") {
			return Need{}, false // then the share is not looked at
		}
		share = f.share(defaultVLLM(version), "", "--gpu-memory-utilization")
	case pool.TGI:
		share = tgiHeadroom * flagSet{args: p.Args, env: p.Env, equals: true}.share(tgiShare, "CUDA_MEMORY_FRACTION", "--cuda-memory-fraction")
	default:
		return Need{}, false
	}
	bytes := make([]uint64, len(targets))
	for i, t := range targets {
		if t.Total == 0 {
			return Need{}, false
		}
		bytes[i] = uint64(float64(t.Total) * share)
	}
	return onDevices(Claimed, targets, bytes), len(targets) > 0
}

// defaultVLLM is the share that vLLM of that version takes by default; of a version that cannot be read, the lesser.
func defaultVLLM(version string) float64 {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if errA == nil && errB == nil && (a > 0 || b >= 21) {
		return vllmShareSince
	}
	return vllmShare
}
