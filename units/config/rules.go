package config

import (
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// rules between keys, in the order in which they are asked.
func rules() []func(*draft, *strict.Report) {
	return []func(*draft, *strict.Report){masksFit, splitFits, portsFit, memoryOrdered, restartOrdered, probesFit, engineAgrees}
}

// masksFit gives each replica its mask, or says that the lists do not fit.
func masksFit(d *draft, r *strict.Report) {
	if r.Failed("devices", "replicas") {
		return
	}
	empty := !d.devices || len(d.masks) == 1 && len(d.masks[0]) == 0
	switch {
	case empty: // CPU replicas
		d.Devices = make([][]string, d.Replicas)
		for i := range d.Devices {
			d.Devices[i] = []string{}
		}
	case !d.nested && d.Replicas > 1:
		r.Rule(fmt.Sprintf("devices is one list for %d replicas", d.Replicas), "one list for each, as [[0], [1]]", "", "devices")
	case len(d.masks) != d.Replicas:
		r.Rule(fmt.Sprintf("devices has %d lists and replicas is %d", len(d.masks), d.Replicas),
			"one list for each replica", fmt.Sprintf("Set replicas = %d, or change the lists.", len(d.masks)), "devices")
	default:
		d.Devices = d.masks
	}
}

func splitFits(d *draft, r *strict.Report) {
	if d.TensorSplit == nil || r.Failed("devices", "replicas", "tensor_split") {
		return
	}
	for i, mask := range d.Devices {
		if len(mask) != len(d.TensorSplit) {
			r.Rule(fmt.Sprintf("tensor_split has %d shares and replica r%d has %d devices", len(d.TensorSplit), i, len(mask)),
				"one share for each device", "", "tensor_split")
			return
		}
	}
}

func portsFit(d *draft, r *strict.Report) {
	if d.Port == 0 || r.Failed("port", "replicas") {
		return
	}
	if last := d.Port + d.Replicas - 1; last > maxPort {
		r.Rule(fmt.Sprintf("port is %d, and the last of %d replicas would have %d", d.Port, d.Replicas, last),
			fmt.Sprintf("at most %d", maxPort-d.Replicas+1), "", "port")
	}
}

func memoryOrdered(d *draft, r *strict.Report) {
	high, limit := d.Limits.MemoryHighBytes, d.Limits.MemoryMaxBytes
	if limit > 0 && high > limit && !r.Failed("limits.memory_high", "limits.memory_max") {
		r.Rule(fmt.Sprintf("limits.memory_high is %s and limits.memory_max is %s", strict.FormatSize(high), strict.FormatSize(limit)),
			"memory_high at most memory_max", "", "limits.memory_high", "limits.memory_max")
	}
}

func restartOrdered(d *draft, r *strict.Report) {
	ordered(r, "restart.initial", d.Restart.Initial, "restart.max", d.Restart.Max)
}

func probesFit(d *draft, r *strict.Report) {
	ordered(r, "health.timeout", d.Health.Timeout, "health.interval", d.Health.Interval)
}

// ordered asks that the first duration is not above the second; either may be a default.
func ordered(r *strict.Report, low string, a time.Duration, high string, b time.Duration) {
	if a <= b || r.Failed(low, high) {
		return
	}
	r.Rule(fmt.Sprintf("%s is %s and %s is %s", low, strict.FormatDuration(a), high, strict.FormatDuration(b)),
		low+" at most "+high, "Set both; one that the file does not give has its default.", low, high)
}

// engineAgrees asks the engine's adapter, once everything else is right.
func engineAgrees(d *draft, r *strict.Report) {
	if r.Any() {
		return
	}
	if d.Model == "" && d.Engine != "command" {
		r.Rule("model is missing", `"file:" and an absolute path`, `Add a line: model = "file:/srv/models/…"`, "model")
		return
	}
	adapter, ok := engine.For(d.Engine)
	if !ok {
		return
	}
	if adapter.DefaultBinary() == "" && d.Provisioning.Binary == "" {
		r.Rule(fmt.Sprintf("provisioning.binary is missing, and engine %q has no usual one", d.Engine), "an absolute path",
			`Add [provisioning] and binary = "/usr/bin/…" below it.`, "provisioning.binary")
		return
	}
	if f := registry.AsFailure(adapter.Check(d.Pool), registry.CodeConfigInvalid, ""); f != nil {
		r.Rule(f.Message, "", f.Hint, "args", "engine")
	}
}
