package memory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Estimator estimates the need of replicas. It is safe for concurrent use.
type Estimator struct {
	peaks  Peaks
	log    *slog.Logger
	models ggufModels

	turns chan struct{} // held while a model's files are read

	mu     sync.Mutex
	found  map[string]Need          // the need computed from the model's files, by Key and devices
	busy   map[string]chan struct{} // closed when the reader of that key is done
	logged map[string]bool          // what was logged, by Key
}

// New returns an Estimator. With nil peaks no need is Measured. Each model that cannot be estimated
// is logged once.
func New(peaks Peaks, log *slog.Logger) *Estimator {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Estimator{peaks: peaks, log: log, models: parser{}, turns: make(chan struct{}, maxTurns),
		found: make(map[string]Need), busy: make(map[string]chan struct{}), logged: make(map[string]bool)}
}

// Estimate returns what a replica of the pool on those targets (none: a CPU replica) needs. It
// reads the headers of the model's files, and remembers what it found as long as they do not
// change. If the need cannot be determined, it is Unknown with the reason in Why; the only error is
// the context's. A load that ended for want of memory raises it, but not one that the pool file
// sets.
func (e *Estimator) Estimate(ctx context.Context, p pool.Pool, staged pool.Staged, version string,
	targets []devices.Target) (Need, error) {
	key := Key(p, staged, version, targets)
	need, err := e.usual(ctx, key, p, staged, version, targets)
	if err != nil || e.peaks == nil || need.Source == Configured {
		return need, err
	}
	if r, ok := e.peaks.Raised(key); ok {
		need = need.raise(r, targets, time.Now())
	}
	return need, nil
}

// usual returns the need from the first source that applies.
func (e *Estimator) usual(ctx context.Context, key string, p pool.Pool, staged pool.Staged, version string,
	targets []devices.Target) (Need, error) {
	model, err := e.fromFiles(ctx, key, p, staged, targets)
	if err != nil {
		return Need{}, err
	}
	if len(targets) == 0 {
		return model, nil
	}
	if p.VRAMBytes > 0 {
		return model.replaced(onDevices(Configured, targets, spread(p, targets))), nil
	}
	a, known := engine.For(p.Engine)
	if !known {
		return model, nil
	}
	own := a.Claim(p, version)
	claim, claims := claimed(own, targets)
	if claims && own.Firm { // it does not start with less free memory, whatever was measured
		return model.replaced(claim), nil
	}
	// 0: not reported by the driver
	if peak, ok := e.peak(key); ok && len(peak) == len(targets) && !slices.Contains(peak, 0) {
		return model.replaced(onDevices(Measured, targets, peak)), nil
	}
	if claims {
		return model.replaced(claim), nil
	}
	return model, nil
}

func (e *Estimator) peak(key string) (devices []uint64, ok bool) {
	if e.peaks == nil {
		return nil, false
	}
	return e.peaks.Peak(key)
}

// replaced returns the need with the devices of a better source; main memory and the parts stay as
// computed from the model's files.
func (n Need) replaced(better Need) Need {
	n.Devices, n.Source, n.Why, n.ClaimFlag = better.Devices, better.Source, "", better.ClaimFlag
	return n
}

// spread divides the key vram over the mask as the engine divides the model: by tensor_split, by
// the sizes of the devices, or evenly. Each part is rounded up.
func spread(p pool.Pool, targets []devices.Target) []uint64 {
	totals := make([]uint64, len(targets))
	if a, known := engine.For(p.Engine); known && a.SplitsByShare() {
		for i, t := range targets {
			totals[i] = t.Total
		}
	}
	parts := make([]uint64, len(targets))
	for i, share := range shares(p.TensorSplit, totals) {
		parts[i] = p.VRAMBytes
		if share < 1 {
			parts[i] = min(p.VRAMBytes, uint64(float64(p.VRAMBytes)*share)+1)
		}
	}
	return parts
}

// fromFiles returns the need computed from the model's files, cached.
func (e *Estimator) fromFiles(ctx context.Context, key string, p pool.Pool, staged pool.Staged,
	targets []devices.Target) (Need, error) {
	if err := ctx.Err(); err != nil {
		return Need{}, err
	}
	// devices of the same size share a key but have different UUIDs
	need, done, err := e.remembered(ctx, key+uuids(targets))
	if err != nil || done == nil {
		return need, err
	}
	defer done(&need)
	defer e.turn(ctx)()
	need, err = e.byEngine(ctx, p, staged, targets)
	switch {
	case ctx.Err() != nil:
		return Need{}, ctx.Err()
	case err != nil: // not cached: a missing file may appear later
		e.logOnce(key, p, err)
		return Need{Source: Unknown, Why: err.Error()}, nil
	}
	return need, nil
}

func uuids(targets []devices.Target) string {
	var b strings.Builder
	for _, t := range targets {
		b.WriteString(" " + t.UUID)
	}
	return b.String()
}

var (
	errNoModel  = errors.New("the pool has no model file")
	errTheirOwn = errors.New("the engine's needs are unknown")
)

func (e *Estimator) byEngine(ctx context.Context, p pool.Pool, staged pool.Staged,
	targets []devices.Target) (Need, error) {
	a, known := engine.For(p.Engine)
	switch {
	case staged.Path == "":
		return Need{}, errNoModel
	case known && a.Weights() == engine.GGUF:
		return e.gguf(ctx, a, p, staged, targets)
	case known && a.Weights() == engine.Safetensors && len(targets) > 0:
		return safetensors(staged, targets)
	}
	return Need{}, errTheirOwn
}

// gguf estimates a GGUF model with the parser and assigns each device its parts.
func (e *Estimator) gguf(ctx context.Context, a engine.Adapter, p pool.Pool, staged pool.Staged,
	targets []devices.Target) (Need, error) {
	r, err := readRun(a, p, staged.Path, targets)
	if err != nil {
		return Need{}, err
	}
	paths, err := partsOf(staged.Path)
	if err != nil {
		return Need{}, err
	}
	beside, err := sizes(r.Beside)
	if err != nil {
		return Need{}, err
	}
	u, err := e.models.Usage(ctx, paths, r)
	if err != nil {
		return Need{}, err
	}
	if len(targets) == 0 {
		u.Host.Weights = saturated(u.Host.Weights, beside)
	} else {
		u.Devices[r.Main].Weights = saturated(u.Devices[r.Main].Weights, beside)
	}
	n := u.need(targets)
	if r.Mapped {
		n.Mapped = u.Host.Weights
	}
	return n, nil
}

// need converts the usage to a Need.
func (u usage) need(targets []devices.Target) Need {
	n := Need{Source: Estimated, Host: u.Host.sum(), Ctx: u.Ctx, Trained: u.Trained}
	if len(targets) > 0 {
		n.Devices = make(map[string]uint64, len(targets))
	}
	for i, t := range targets {
		n.Devices[t.UUID] = u.Devices[i].sum()
		n.Parts = append(n.Parts, u.Devices[i].parts(t.UUID)...)
	}
	n.Parts = append(n.Parts, u.Host.parts("")...)
	return n
}

func (d deviceUsage) parts(device string) []Part {
	return []Part{{PartWeights, device, d.Weights}, {PartKV, device, d.KV}, {PartCompute, device, d.Compute},
		{PartRuntime, device, d.Runtime}}
}

// maxParts bounds the files of one model.
const maxParts = 1024

// partsOf returns every part of the model that a path belongs to, by llama.cpp's naming
// ("…-00001-of-00003.gguf").
func partsOf(path string) ([]string, error) {
	stem, ok := strings.CutSuffix(path, ".gguf")
	if !ok || len(stem) < len("-00001-of-00001") {
		return []string{path}, nil
	}
	tail := stem[len(stem)-len("-00001-of-00001"):]
	count, err := strconv.Atoi(tail[len(tail)-5:])
	if err != nil || tail[0] != '-' || tail[6:10] != "-of-" || count < 1 {
		return []string{path}, nil
	}
	if count > maxParts {
		return nil, fmt.Errorf("a model of %d parts", count)
	}
	var paths []string
	for i := range count {
		paths = append(paths, fmt.Sprintf("%s-%05d-of-%05d.gguf", stem[:len(stem)-len(tail)], i+1, count))
	}
	return paths, nil
}

// sizes adds up files that are loaded whole, each with all of its parts.
func sizes(named []string) (uint64, error) {
	var paths []string
	for _, path := range named {
		parts, err := partsOf(path)
		if err != nil {
			return 0, err
		}
		paths = append(paths, parts...)
	}
	var sum uint64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return 0, fmt.Errorf("a file that args name: %w", err)
		}
		sum = saturated(sum, uint64(info.Size()))
	}
	return sum, nil
}

// Of a model in safetensors only the weights are known; the rest is estimated as a fifth of them
// plus a constant for PyTorch and CUDA.
const (
	safetensorsPart = 1.2
	safetensorsBase = 2 << 30 // bytes
)

// safetensors returns the need of a directory of shards, split evenly as by tensor parallelism. It
// is used if an engine's share of the GPUs is unknown.
func safetensors(staged pool.Staged, targets []devices.Target) (Need, error) {
	literal := strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(staged.Path)
	shards, err := filepath.Glob(filepath.Join(literal, "*.safetensors"))
	if err != nil {
		return Need{}, err
	}
	weights, err := sizes(shards)
	if err != nil {
		return Need{}, err
	}
	if weights == 0 {
		return Need{}, errors.New("the model's directory has no *.safetensors")
	}
	n := Need{Source: Estimated, Devices: make(map[string]uint64, len(targets))}
	for _, t := range targets {
		own := weights / uint64(len(targets))
		rest := uint64(float64(own)*(safetensorsPart-1)) + safetensorsBase
		n.Devices[t.UUID] = saturated(own, rest)
		n.Parts = append(n.Parts, Part{PartWeights, t.UUID, own}, Part{PartRuntime, t.UUID, rest})
	}
	return n, nil
}
