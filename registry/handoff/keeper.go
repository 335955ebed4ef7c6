package handoff

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Times of the keeper.
const (
	minGap = 250 * time.Millisecond // between two writes of one file, at least
	pause  = 10 * time.Millisecond  // between two reads of the changes, at least
	again  = time.Second            // until a file that could not be written or removed is tried again
)

// Files is what the keeper does to the directory; Dir implements it.
type Files interface {
	Write(name string, body []byte) error
	Remove(name string) error
	Read(name string) []byte
	List() (files, left []string, err error)
	// Stamp changes when a file is replaced or written to; ok is false where there is none.
	Stamp(name string) (stamp Stamp, ok bool)
}

// Keeper keeps the files in step with the registry. Pass Changed to Registry.OnPool, and call Run
// once.
type Keeper struct {
	files Files
	log   *slog.Logger
	wake  chan struct{}

	mu      sync.Mutex
	changed map[string]*registry.Pool // not yet handled, by id; nil: removed
	adopted bool
	check   bool // the files on disk are to be compared with those that were written

	// Of Run's goroutine.
	kept    map[string]*kept    // by the file's name
	names   map[string][]string // the files of each pool
	pending map[string]bool     // files to write or remove
	swept   bool
}

// kept is one file.
type kept struct {
	pool   string
	want   []byte // nil: it must not exist
	have   []byte // nil: it does not exist
	file   *File  // have, decoded; nil where it cannot be
	stamp  Stamp  // of have on disk; zero: not known
	wrote  time.Time
	failed time.Time // when the last try failed; zero: it did not
}

// NewKeeper makes the keeper of a directory.
func NewKeeper(files Files, log *slog.Logger) *Keeper {
	return &Keeper{files: files, log: log, wake: make(chan struct{}, 1), changed: make(map[string]*registry.Pool),
		kept: make(map[string]*kept), names: make(map[string][]string), pending: make(map[string]bool)}
}

// Changed records a pool's newest status, nil for a removed pool. It returns at once and may be
// called from any goroutine.
func (k *Keeper) Changed(id string, p *registry.Pool) {
	k.mu.Lock()
	k.changed[id] = p
	k.mu.Unlock()
	k.look()
}

// Adopted is called when every replica that serves was reported: other files, which a former
// manager left, are removed.
func (k *Keeper) Adopted() {
	k.mu.Lock()
	k.adopted = true
	k.mu.Unlock()
	k.look()
}

// Check has the files compared with what was written: those that another process deleted or changed
// are written again.
func (k *Keeper) Check() {
	k.mu.Lock()
	k.check = true
	k.mu.Unlock()
	k.look()
}

func (k *Keeper) look() {
	select {
	case k.wake <- struct{}{}:
	default: // it was not woken yet, and will see this too
	}
}

// Run keeps the files until ctx ends. Then it writes reported changes without waiting.
func (k *Keeper) Run(ctx context.Context) {
	timer := time.NewTimer(again)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			k.take()
			k.flush(true)
			return
		case <-k.wake:
		case <-timer.C:
		}
		k.take()
		timer.Reset(k.flush(false))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// take computes the wanted content of the files.
func (k *Keeper) take() {
	k.mu.Lock()
	changed, adopted, check := k.changed, k.adopted, k.check
	k.changed, k.check = make(map[string]*registry.Pool), false
	k.mu.Unlock()
	for id, p := range changed {
		k.pool(id, p)
	}
	if adopted && !k.swept {
		k.swept = true
		k.sweep()
	}
	if check {
		k.compare()
	}
}

// compare finds the files that are not on disk as they were written.
func (k *Keeper) compare() {
	damaged := 0
	for name, f := range k.kept {
		if f.have == nil || f.stamp == (Stamp{}) {
			continue
		}
		if now, ok := k.files.Stamp(name); !ok || now != f.stamp {
			f.holds(k.files.Read(name))
			f.stamp = now
			k.pending[name] = true
			damaged++
		}
	}
	if damaged > 0 {
		k.log.Error("another program deleted or changed hand-off files; writing them again", "files", damaged)
	}
}

// pool computes the files of one pool.
func (k *Keeper) pool(id string, p *registry.Pool) {
	serves := make(map[string]*registry.Replica)
	if p != nil {
		serves = k.serving(p)
	}
	for _, name := range k.names[id] {
		if serves[name] == nil {
			k.set(name, nil)
		}
	}
	for name, r := range serves {
		f := k.open(name, id)
		body, err := fileOf(p, r, f.file).encode()
		if err != nil { // strings and numbers cannot fail
			k.log.Error("could not encode the hand-off file", "pool_id", id, "err", err)
			continue
		}
		k.set(name, body)
	}
	if p == nil {
		delete(k.names, id)
	}
}

// serving returns the replicas that need a file, by its name. While a reload replaces an engine,
// both engines of a replica may serve for a moment; the file keeps naming the same one while that
// one serves.
func (k *Keeper) serving(p *registry.Pool) map[string]*registry.Replica {
	out := make(map[string]*registry.Replica)
	for i := range p.Replicas {
		r := &p.Replicas[i]
		name, ok := fileName(p.ID, nameOf(r))
		if !r.Ready || !ok {
			continue
		}
		if first := out[name]; first == nil || !k.holds(name, first) {
			out[name] = r
		}
	}
	return out
}

// holds reports whether a file is about this replica.
func (k *Keeper) holds(name string, r *registry.Replica) bool {
	f := k.kept[name]
	return f != nil && f.file != nil && f.file.URL == r.Endpoint
}

// open returns a file's state, read from the disk the first time.
func (k *Keeper) open(name, pool string) *kept {
	f := k.kept[name]
	if f == nil {
		f = &kept{pool: pool}
		f.holds(k.files.Read(name))
		f.stamp, _ = k.files.Stamp(name)
		k.kept[name] = f
		k.names[pool] = append(k.names[pool], name)
	}
	return f
}

func (k *Keeper) set(name string, body []byte) {
	k.kept[name].want = body
	k.pending[name] = true
}

// sweep removes files without a replica that serves, and temporary files of interrupted writes.
func (k *Keeper) sweep() {
	files, left, err := k.files.List()
	if err != nil {
		k.log.Error("could not list stale hand-off files", "err", err)
	}
	for _, name := range files {
		if k.kept[name] == nil {
			left = append(left, name)
		}
	}
	for _, name := range left {
		if err := k.files.Remove(name); err != nil {
			k.log.Error("could not remove a stale hand-off file", "err", err)
		}
	}
}

// flush writes and removes what is due, or everything, and returns how long until the next is.
func (k *Keeper) flush(all bool) time.Duration {
	next, now := time.Hour, time.Now()
	for name := range k.pending {
		f := k.kept[name]
		if wait := f.due().Sub(now); wait > 0 && !all && !f.asWanted() {
			next = min(next, wait)
			continue
		}
		if err := k.put(name, f); err != nil {
			if f.failed.IsZero() { // a repeated failure is logged once
				k.log.Error("could not update the hand-off file", "pool_id", f.pool, "err", err)
			}
			f.failed = now
			next = min(next, again)
			continue
		}
		f.failed = time.Time{}
		delete(k.pending, name)
		if f.want == nil && k.names[f.pool] == nil {
			delete(k.kept, name) // its pool was removed
		}
	}
	return next
}

// put writes or removes one file.
func (k *Keeper) put(name string, f *kept) error {
	switch {
	case f.asWanted():
		return nil
	case f.want == nil:
		if err := k.files.Remove(name); err != nil {
			return err
		}
	default:
		if err := k.files.Write(name, f.want); err != nil {
			return err
		}
		f.wrote = time.Now()
	}
	f.holds(f.want)
	f.stamp, _ = k.files.Stamp(name)
	return nil
}

func (f *kept) asWanted() bool {
	return (f.want == nil) == (f.have == nil) && bytes.Equal(f.want, f.have)
}

// due is when the file may be touched next. A removal never waits for the gap between writes.
func (f *kept) due() time.Time {
	at := time.Time{}
	if !f.failed.IsZero() {
		at = f.failed.Add(again)
	}
	if gap := f.wrote.Add(minGap); f.want != nil && !f.wrote.IsZero() && gap.After(at) {
		at = gap
	}
	return at
}

// holds records what is on the disk now.
func (f *kept) holds(body []byte) {
	f.have, f.file = body, nil
	var file File
	if body != nil && json.Unmarshal(body, &file) == nil {
		f.file = &file
	}
}
