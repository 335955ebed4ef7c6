package config

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// rules between keys, in the order of their evaluation.
func rules() []func(*draft, *strict.Report) {
	return []func(*draft, *strict.Report){
		masksFit, masksApart, splitFits, portsFit, engineHasAll, engineAgrees, externalAlone, containerWhole, runtimeWhole,
		prefetchKnown,
		func(d *draft, r *strict.Report) { limitsOrdered(&d.Pool, r, "") },
		func(d *draft, _ *strict.Report) {
			for _, paths := range [][]string{d.Writable, d.Files} {
				for i, p := range paths {
					paths[i] = path.Clean(p)
				}
			}
		},
		func(d *draft, r *strict.Report) { nodesFit(&d.Process, r, "") },
		func(d *draft, r *strict.Report) { probeAgrees(&d.Pool.Health, r) },
	}
}

// masksFit gives each replica its mask, or reports that the lists do not fit.
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
		r.Rule(fmt.Sprintf("devices is one list for %d replicas", d.Replicas), "one list for each, as [[0], [1]]", "",
			"devices")
	case len(d.masks) != d.Replicas:
		r.Rule(fmt.Sprintf("devices has %d lists and replicas is %d", len(d.masks), d.Replicas),
			"one list for each replica", fmt.Sprintf("Set replicas = %d, or change the lists.", len(d.masks)),
			"devices")
	default:
		d.Devices = d.masks
	}
}

// masksApart refuses a device for two replicas of a pool, as far as the file alone shows it.
func masksApart(d *draft, r *strict.Report) {
	if d.Shared || r.Failed("devices", "replicas", "shared") {
		return
	}
	for i, mask := range d.Devices {
		for _, name := range mask {
			for j, other := range d.Devices[:i] {
				at := slices.IndexFunc(other, func(taken string) bool { return overlapping(name, taken) })
				if at < 0 {
					continue
				}
				r.Rule(fmt.Sprintf("devices gives %q to replica r%d, which is %q of replica r%d or meets it", name, i,
					other[at], j),
					"devices of its own for each replica",
					"Set shared = true if several engines are meant to share a GPU.", "devices")
				return
			}
		}
	}
}

func splitFits(d *draft, r *strict.Report) {
	if d.TensorSplit == nil || r.Failed("devices", "replicas", "tensor_split") {
		return
	}
	for i, mask := range d.Devices {
		if len(mask) != len(d.TensorSplit) {
			r.Rule(fmt.Sprintf("tensor_split has %d shares and replica r%d has %d devices", len(d.TensorSplit), i,
				len(mask)),
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

// limitsOrdered checks the order of values that limit each other, in a pool file and in [defaults],
// whose keys begin with prefix. A default lower value is reduced to the upper value of the file. A
// default upper value is never raised, except for the longest delay.
func limitsOrdered(p *pool.Pool, r *strict.Report, prefix string) {
	size, span := strict.FormatSize, strict.FormatDuration
	if l := &p.Limits; l.MemoryMaxBytes > 0 {
		ordered(r, bound[uint64]{prefix + "limits.memory_high", &l.MemoryHighBytes, size},
			bound[uint64]{prefix + "limits.memory_max", &l.MemoryMaxBytes, size})
	}
	ordered(r, bound[time.Duration]{prefix + "health.timeout", &p.Health.Timeout, span},
		bound[time.Duration]{prefix + "health.interval", &p.Health.Interval, span})
	if longest := prefix + "restart.max"; !r.Has(longest) && r.Has(prefix+"restart.initial") {
		p.Restart.Max = max(p.Restart.Max, p.Restart.Initial)
	}
	ordered(r, bound[time.Duration]{prefix + "restart.initial", &p.Restart.Initial, span},
		bound[time.Duration]{prefix + "restart.max", &p.Restart.Max, span})
	if longest := prefix + "restart.breaker_max"; !r.Has(longest) && r.Has(prefix+"restart.breaker_timeout") {
		p.Restart.BreakerMax = max(p.Restart.BreakerMax, p.Restart.BreakerTimeout)
	}
	ordered(r, bound[time.Duration]{prefix + "restart.breaker_timeout", &p.Restart.BreakerTimeout, span},
		bound[time.Duration]{prefix + "restart.breaker_max", &p.Restart.BreakerMax, span})
}

// bound is a key with its value and its format.
type bound[V cmp.Ordered] struct {
	key   string
	value *V
	text  func(V) string
}

// ordered checks that low is not above high.
func ordered[V cmp.Ordered](r *strict.Report, low, high bound[V]) {
	switch {
	case *low.value <= *high.value || r.Failed(low.key, high.key):
	case !r.Has(low.key):
		*low.value = *high.value
	default:
		r.Rule(fmt.Sprintf("%s is %s and %s is %s", low.key, low.text(*low.value), high.key, high.text(*high.value)),
			low.key+" at most "+high.key, "A missing key has its default.", low.key, high.key)
	}
}

// probeAgrees refuses keys of this file that belong to another kind of probe. A default for all
// pools that does not fit this one is not a mistake of this file.
func probeAgrees(h *pool.Health, r *strict.Report) {
	for _, own := range [...]struct{ key, kind string }{
		{"health.path", pool.ProbeHTTP}, {"health.body", pool.ProbeHTTP}, {"health.grpc_service", pool.ProbeGRPC},
	} {
		if r.Has(own.key) && h.Probe != own.kind && !r.Failed(own.key, "health.probe") {
			r.Rule(fmt.Sprintf("%s belongs to probe %q, and health.probe is %q", own.key, own.kind, h.Probe), "",
				fmt.Sprintf("Remove it, or set health.probe = %q.", own.kind), own.key)
		}
	}
	if r.Has("health.generate_path") != r.Has("health.generate_body") &&
		!r.Failed("health.generate_path", "health.generate_body") {
		r.Rule("health.generate_path and health.generate_body belong together", "both or none", "",
			"health.generate_path", "health.generate_body")
	}
}

// engineHasAll requires the engine, and the keys that this engine needs.
func engineHasAll(d *draft, r *strict.Report) {
	if d.Engine == "" && !r.Failed("engine") {
		r.Rule("engine is missing", strict.OneOf(engine.Kinds()),
			fmt.Sprintf("Add a line: engine = %q", engine.Kinds()[0]), "engine")
	}
	adapter, ok := engine.For(d.Engine)
	external := d.Provisioning.Mode == pool.ModeExternal
	if d.Model == "" && !slices.Contains(engine.WithoutModel(), d.Engine) && !external && !r.Failed("model") {
		r.Rule("model is missing", `"file:" and an absolute path`,
			fmt.Sprintf(`Add a line: model = "file:/srv/models/…"; only engine %s needs none.`,
				strict.OneOf(engine.WithoutModel())), "model")
	}
	if !ok || r.Failed("engine") {
		return
	}
	image := d.Provisioning.Mode == pool.ModeContainer // whose entry point may do
	if adapter.DefaultBinary() == "" && !external && !image && d.Provisioning.Binary == "" &&
		!r.Failed("provisioning.binary") {
		r.Rule(fmt.Sprintf("provisioning.binary is missing, and engine %q has no default", d.Engine),
			"an absolute path",
			`Add [provisioning] and, below it, binary = "/usr/bin/…".`, "provisioning.binary")
	}
}

// engineAgrees checks the valid keys against the engine's adapter, and what its unit can hold.
func engineAgrees(d *draft, r *strict.Report) {
	adapter, ok := engine.For(d.Engine)
	if d.Provisioning.Mode == pool.ModeExternal { // its command line is not ours
		return
	}
	if !ok || r.Failed("engine") {
		return
	}
	d.FileEnv, _ = bring.Environment(d.Pool) // one that cannot be read now is waited for
	known := func(refused pool.Refusal) bool { return r.Failed(refused.Base()) }
	for _, refused := range slices.DeleteFunc(confine.Refusals(d.Pool, adapter), known) {
		hint := refused.Hint
		if !r.Has(refused.Base()) {
			hint += " It comes from [defaults] of config.toml."
		}
		r.RuleItem(refused.Item(), refused.Message, hint, refused.Base(), "engine")
	}
}
