package etcd

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// Bounds of reading.
const (
	// quiet is how long a watch may deliver nothing before it is asked for its progress, and
	// silence how long before it has ended: less than the 10 seconds that a lease has by default.
	quiet   = 2 * time.Second
	silence = 6 * time.Second
	// firstReread is the pause before the first list after a session that was good.
	firstReread = 100 * time.Millisecond
	goodSession = 10 * time.Second
)

// Reasons for which a session of a reader ends, beside those of requests.
var (
	errSilent = fmt.Errorf("the member that was watched has not answered for %s", silence)
	errEnded  = errors.New("etcd ended the watch")
)

// feed is what is needed of etcd; *source is one.
type feed interface {
	// list passes every key on, in pages, as of the revision that it returns.
	list(ctx context.Context, page func([]view.KV)) (revision int64, err error)
	// watch passes on what changes from a revision on, until it ends with the reason.
	watch(ctx context.Context, from int64, deliver func(view.Batch)) error
	close()
}

// Reader reads what all hosts published. It writes nothing. Make one with NewReader; it may be used
// by several goroutines.
type Reader struct {
	o       Options
	connect func() (feed, error)
	random  func() float64 // in [0, 1)
}

// NewReader returns a reader of the etcd and the prefix of the options, of which it needs neither
// Host nor TTL nor Status. Nothing is connected to yet.
func NewReader(o Options) *Reader {
	return &Reader{o: o, connect: func() (feed, error) { return dialSource(o) }, random: mathrand.Float64}
}

// List reads the fleet once.
func (r *Reader) List(ctx context.Context) (*view.Set, error) {
	f, err := r.connect()
	if err != nil {
		return nil, err
	}
	defer f.close()
	set := view.New(r.o.Prefix)
	_, err = r.list(ctx, f, func(b view.Batch) { set.Apply(b) })
	return set, err
}

// Watch delivers the fleet, in the order that view.Batch describes, until ctx ends: a whole list
// and then what changes, and after each loss the reason and a whole list again. deliver is called
// by this goroutine alone; one that takes long has the watch wait.
func (r *Reader) Watch(ctx context.Context, deliver func(view.Batch)) {
	failed := 0
	for ctx.Err() == nil {
		listed, err := r.session(ctx, deliver)
		if ctx.Err() != nil {
			return
		}
		good := !listed.IsZero() && time.Since(listed) >= goodSession
		if good || errors.Is(err, rpctypes.ErrCompacted) {
			failed = 0
		}
		deliver(view.Batch{Kind: view.Lost, Err: err})
		wait(ctx, r.pause(failed))
		failed++
	}
}

// session is a list and a watch. It returns when the list was complete (zero: it was not), and why
// the watch ended.
func (r *Reader) session(ctx context.Context, deliver func(view.Batch)) (listed time.Time, err error) {
	f, err := r.connect()
	if err != nil {
		return listed, err
	}
	defer f.close()
	revision, err := r.list(ctx, f, deliver)
	if err != nil {
		return listed, err
	}
	listed = time.Now()
	return listed, f.watch(ctx, revision+1, deliver)
}

func (r *Reader) list(ctx context.Context, f feed, deliver func(view.Batch)) (int64, error) {
	deliver(view.Batch{Kind: view.Begin})
	revision, err := f.list(ctx, func(kvs []view.KV) { deliver(view.Batch{Kind: view.Page, KVs: kvs}) })
	if err == nil {
		deliver(view.Batch{Kind: view.End, Revision: revision})
	}
	return revision, err
}

// pause doubles with each failure, and is shortened at random by up to a half.
func (r *Reader) pause(failed int) time.Duration {
	p := longestRetry
	if failed < 8 {
		p = min(longestRetry, firstReread<<failed)
	}
	return p - time.Duration(r.random()*float64(p)/2)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
