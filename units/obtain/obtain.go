// Package obtain makes models of other hosts present: it has pool-fetch download them, each in a
// unit of its own that outlives the manager, and waits for it.
//
// It owns which downloads are under way, their retries, what of the host's policy is about them,
// and how a failed one reads. It opens no connection. It must not know what a model is for, or how
// one is downloaded.
package obtain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// PID1 runs units.
type PID1 interface {
	// RunDetached is that of systemd.Client.
	RunDetached(ctx context.Context, unit string, props []systemd.Property, fresh func() error) (systemd.Status, error)
	// RunCapture is that of systemd.Client.
	RunCapture(ctx context.Context, unit string, props []systemd.Property, limit int) ([]byte, systemd.Status, error)
	// Stop returns when the unit has ended; one that is gone is no error.
	Stop(ctx context.Context, unit string) error
}

// Options are the parts of an Obtainer.
type Options struct {
	PID1    PID1
	Program string // path of pool-fetch
	Output  string // directory of the units' output, in /run
	Log     *slog.Logger
	// Nameservers returns the addresses in /etc/resolv.conf.
	Nameservers Nameservers
	// Refuse returns why the policy forbids to execute a program of the host's own; nil: it does
	// not.
	Refuse func(program string) *registry.Failure
	// Peers returns the URLs of the managers of other hosts that have a model; nil: there are none.
	Peers func(ctx context.Context, ref modelref.Ref) []string
	// Ended is called after each run of a download.
	Ended func(Outcome)
}

// Outcome is how a run of a download ended.
type Outcome struct {
	Reason    string // why it failed; empty: it did not
	Bytes     int64  // of all files
	PeerBytes int64  // of them from other hosts of the fleet
	Took      time.Duration
}

// Want is a model that is to be present.
type Want struct {
	Ref    modelref.Ref
	Digest string // "sha256:…" of its only file, or empty
	// Fresh asks the source again although the model is there: a branch may have moved.
	Fresh bool
}

// Got is a model that is present.
type Got struct {
	Path   string // what an engine opens: a file, or a directory
	Digest string // "sha256:…" of the only file, compared while it was written; empty: it was not
}

// Obtainer has models downloaded. Its methods may be called from any goroutine.
type Obtainer struct {
	o        Options
	settings atomic.Pointer[egress.Settings]
	wake     chan struct{} // a flight is in begun

	mu          sync.Mutex
	begun       []*flight                // not running yet
	flights     map[string]*flight       // under way, by id
	directories map[string]chan struct{} // the turn of each artefact's directory
	refused     map[string]refusal       // of late, by id
	known       map[string]bool          // hosts that files came from by a redirect
}

// refusal is a failure that asking again would not change.
type refusal struct {
	failure  *registry.Failure
	settings *egress.Settings
	until    time.Time
}

// refusedFor is how long a source that refused is not asked again, unless the settings change.
const refusedFor = 5 * time.Minute

// New makes an Obtainer without settings, which downloads nothing. Run starts it.
func New(o Options) *Obtainer {
	ob := &Obtainer{o: o, wake: make(chan struct{}, 1), flights: make(map[string]*flight),
		directories: make(map[string]chan struct{}), refused: make(map[string]refusal), known: make(map[string]bool)}
	ob.settings.Store(&egress.Settings{Egress: egress.Deny})
	return ob
}

// Configure puts settings in force, for downloads that begin later.
func (o *Obtainer) Configure(s egress.Settings) { o.settings.Store(&s) }

// Run runs downloads until ctx ends. Their units go on then.
func (o *Obtainer) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		}
		o.mu.Lock()
		begun := o.begun
		o.begun = nil
		o.mu.Unlock()
		for _, f := range begun {
			all.Go(func() { f.run(ctx) })
		}
	}
}

// Obtain returns when the model is present. Callers that want the same share one download, and
// report is called with its progress. The end of ctx ends the wait; a download that no caller waits
// for any longer is stopped, and goes on where it was when it is wanted again. The error is a
// *registry.Failure, or the context's.
func (o *Obtainer) Obtain(ctx context.Context, w Want, report func(pool.Staging)) (Got, error) {
	got, _, err := o.obtain(ctx, w, report)
	return got, err
}

// obtain is Obtain; temporary is whether a further attempt may succeed without a change.
func (o *Obtainer) obtain(ctx context.Context, w Want, report func(pool.Staging)) (got Got, temporary bool, err error) {
	s := o.settings.Load()
	there := library.Find(s.CacheDir, w.Ref)
	if !w.Fresh && there.Whole == library.Yes {
		got, err = o.present(s, w, there)
		return got, false, err
	}
	if f := s.Refuse(w.Ref); f != nil {
		if !w.Fresh && there.Whole == library.Unknown { // what there is will have to do
			got, err = o.present(s, w, there)
			return got, false, err
		}
		return Got{}, false, f
	}
	if f := o.refusedOfLate(w, s); f != nil && !w.Fresh {
		return Got{}, false, f
	}
	f, leave := o.join(w, s, report)
	defer leave()
	select {
	case <-f.done:
		if f.failure != nil {
			return Got{}, f.temporary, f.failure
		}
		return f.got, false, nil
	case <-ctx.Done():
		return Got{}, false, ctx.Err()
	}
}

// Find returns where a model is in the cache, without asking for it; empty: nowhere.
func (o *Obtainer) Find(ref modelref.Ref) string {
	return library.Find(o.settings.Load().CacheDir, ref).Path
}

// present checks a model that was in the cache.
func (o *Obtainer) present(s *egress.Settings, w Want, there library.Found) (Got, error) {
	if f := contained(s.CacheDir, w.Ref, there.Path); f != nil {
		return Got{}, f
	}
	library.Used(s.Uses, w.Ref.Directory())
	return Got{Path: there.Path}, nil
}

// id names a download: its unit, and the file of its output.
func id(w Want) string {
	sum := sha256.Sum256([]byte(w.Ref.String() + "\x00" + w.Digest))
	name := w.Ref.Directory()
	return name[:min(len(name), 120)] + "." + hex.EncodeToString(sum[:6])
}

// refusedOfLate returns why the source refused a short while ago.
func (o *Obtainer) refusedOfLate(w Want, s *egress.Settings) *registry.Failure {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.refused[id(w)]
	if !ok || r.settings != s || time.Now().After(r.until) {
		return nil
	}
	return r.failure
}

// join returns the download of a model, under way or begun now. leave must be called.
func (o *Obtainer) join(w Want, s *egress.Settings, report func(pool.Staging)) (f *flight, leave func()) {
	o.mu.Lock()
	if f = o.flights[id(w)]; f == nil {
		f = newFlight(o, w, s)
		o.flights[f.id] = f
		o.begun = append(o.begun, f)
		select {
		case o.wake <- struct{}{}:
		default: // it is awake already
		}
	}
	o.mu.Unlock()
	return f, f.enter(report)
}

// turn waits until no other download writes to the artefact's directory.
func (o *Obtainer) turn(ctx context.Context, directory string) (done func(), err error) {
	o.mu.Lock()
	held := o.directories[directory]
	if held == nil {
		held = make(chan struct{}, 1)
		o.directories[directory] = held
	}
	o.mu.Unlock()
	select {
	case held <- struct{}{}:
		return func() { <-held }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
