package main

import (
	"context"

	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/memory"
)

// fitReport is the answer. Unknown values are absent in JSON.
type fitReport struct {
	Model      string        `json:"model"`
	PoolID     string        `json:"pool_id,omitempty"`
	Engine     string        `json:"engine"`
	Ctx        int           `json:"ctx,omitempty"`   // of one request, as asked
	Slots      int           `json:"slots,omitempty"` // as asked
	CtxTotal   uint64        `json:"ctx_total,omitempty"`
	CtxTrained uint64        `json:"ctx_trained,omitempty"`
	Source     memory.Source `json:"source"`
	Why        string        `json:"why,omitempty"` // of source unknown
	Together   bool          `json:"together"`      // the devices share the model; else each is looked at alone
	Devices    []fitRow      `json:"devices"`
	Host       *fitRow       `json:"host,omitempty"` // main memory
	Fits       *bool         `json:"fits,omitempty"`
	Missing    string        `json:"missing,omitempty"` // why fits is absent
	LargestCtx int           `json:"largest_ctx,omitempty"`
	Notes      []string      `json:"notes,omitempty"`

	name string
	err  error // behind Missing
}

// fitRow is one device, or main memory.
type fitRow struct {
	UUID    string  `json:"uuid,omitempty"`
	Index   *int    `json:"index,omitempty"`
	Name    string  `json:"name,omitempty"`
	Weights *uint64 `json:"weights_bytes,omitempty"`
	KV      *uint64 `json:"kv_cache_bytes,omitempty"`
	Compute *uint64 `json:"compute_bytes,omitempty"`
	Runtime *uint64 `json:"runtime_bytes,omitempty"`
	Need    *uint64 `json:"need_bytes,omitempty"`
	Free    *uint64 `json:"vram_free_bytes,omitempty"`
	Total   *uint64 `json:"vram_total_bytes,omitempty"`
	// Available is Free of main memory.
	Available *uint64 `json:"available_bytes,omitempty"`
	Fits      *bool   `json:"fits,omitempty"`
	Why       string  `json:"why,omitempty"` // it does not

	shown string
}

// looker compares the need of a subject with the memory of the host.
type looker struct {
	subject
	estimate  *memory.Estimator
	gpus      hostGPUs
	available uint64 // main memory, 0: not known
}

func (s subject) report(ctx context.Context, gpus hostGPUs, available uint64) (*fitReport, error) {
	l := looker{subject: s, estimate: memory.New(nil, nil), gpus: gpus, available: available}
	r := &fitReport{Model: s.staged.Path, PoolID: s.pool.ID, Engine: s.pool.Engine, Ctx: s.pool.Ctx,
		Slots: s.pool.Slots, name: s.name(), Devices: []fitRow{}}
	groups, err := l.groups()
	if err != nil {
		return nil, err
	}
	r.Together = len(s.mask) > 0
	var best []devices.Target // the largest ctx is computed for these
	for _, targets := range groups {
		need, err := l.estimate.Estimate(ctx, s.pool, s.staged, "", targets)
		if err != nil {
			return nil, err
		}
		r.add(l, need, targets)
		if best == nil || l.roomier(targets, best) {
			best = targets
		}
	}
	r.evaluate(l)
	if r.Fits != nil && (s.cpu || gpus.err == nil) {
		r.LargestCtx, err = l.estimate.LargestCtx(ctx, s.pool, s.staged, best, func(n memory.Need) bool {
			return l.room(n, best)
		})
	}
	return r, err
}

// groups returns the sets of targets to check, each for one replica.
func (l looker) groups() ([][]devices.Target, error) {
	switch {
	case l.cpu:
		return [][]devices.Target{nil}, nil
	case len(l.mask) > 0:
		together, err := l.gpus.targets(l.mask)
		return [][]devices.Target{together}, err
	}
	each, err := l.gpus.each()
	var groups [][]devices.Target
	for _, t := range each {
		groups = append(groups, []devices.Target{t})
	}
	return groups, err
}

// roomier reports whether the first of a is usable and has more free memory than the first of b.
func (l looker) roomier(a, b []devices.Target) bool {
	if len(a) == 0 || len(b) == 0 || l.gpus.unusable(a[0]) != "" {
		return false
	}
	if l.gpus.unusable(b[0]) != "" {
		return true
	}
	x, y := l.gpus.free(a[0]), l.gpus.free(b[0])
	return x != nil && (y == nil || *x > *y)
}

// room reports whether a need fits, as far as the free memory is known.
func (l looker) room(n memory.Need, targets []devices.Target) bool {
	for _, t := range targets {
		if free := l.gpus.free(t); free == nil || n.Devices[t.UUID] > *free || l.gpus.unusable(t) != "" {
			return false
		}
	}
	refused, _ := memory.CheckHost(n, l.available, l.pool)
	return l.available == 0 || refused == nil
}

// add appends the rows of one replica.
func (r *fitReport) add(l looker, n memory.Need, targets []devices.Target) {
	r.Source, r.Why, r.CtxTotal, r.CtxTrained = n.Source, n.Why, n.Ctx, n.Trained
	for _, t := range targets {
		row := fitRow{UUID: t.UUID, Name: t.Name, shown: deviceName(t)}
		if t.GPU != "" {
			row.Index = &t.Index
		}
		if t.Total > 0 {
			row.Total = &t.Total
		}
		row.Free = l.gpus.free(t)
		row.parts(n, t.UUID)
		if need, ok := n.Devices[t.UUID]; ok {
			row.Need = &need
			row.compare(l.gpus.unusable(t))
		}
		r.Devices = append(r.Devices, row)
	}
	if n.Host == 0 || r.Host != nil && *r.Host.Need >= n.Host {
		return
	}
	host := fitRow{Need: &n.Host, shown: "main memory"}
	host.parts(n, "")
	if l.available > 0 {
		host.Available = &l.available
		f, warning := memory.CheckHost(n, l.available, l.pool)
		fits := f == nil
		host.Fits, host.Why = &fits, warning
		if !fits {
			host.Why = f.Message
		}
	}
	r.Host = &host
}

// parts sets the known parts of one device's need.
func (row *fitRow) parts(n memory.Need, device string) {
	for _, p := range n.Parts {
		if p.Device != device {
			continue
		}
		switch p.Name {
		case memory.PartWeights:
			row.Weights = &p.Bytes
		case memory.PartKV:
			row.KV = &p.Bytes
		case memory.PartCompute:
			row.Compute = &p.Bytes
		case memory.PartRuntime:
			row.Runtime = &p.Bytes
		}
	}
}

// compare sets Fits from need and free.
func (row *fitRow) compare(unusable string) {
	fits := false
	switch {
	case unusable != "":
		row.Why = unusable
	case row.Free == nil:
		return
	default:
		fits = *row.Need <= *row.Free
	}
	row.Fits = &fits
}

// evaluate sets Fits: on all devices that share the model, or on any one if each is checked alone.
func (r *fitReport) evaluate(l looker) {
	r.err = l.gpus.err
	if l.gpus.stale != "" && !l.cpu {
		r.Notes = append(r.Notes, l.gpus.stale)
	}
	if l.note != "" {
		r.Notes = append(r.Notes, l.note)
	}
	fits, known := r.Together || l.cpu, true
	for _, d := range r.Devices {
		switch {
		case d.Fits == nil:
			known = false
		case r.Together:
			fits = fits && *d.Fits
		default:
			fits = fits || *d.Fits
		}
	}
	if !r.Together && !l.cpu && fits {
		known = true // one is enough
	}
	if r.Host != nil && r.Host.Fits != nil {
		fits = fits && *r.Host.Fits
	}
	switch {
	case r.Source == memory.Unknown:
		r.Missing = "the need is unknown: " + r.Why
	case known:
		r.Fits = &fits
	case r.err != nil:
		r.Missing = r.err.Error()
	default:
		r.Missing = "the free memory of a device is unknown"
	}
}
