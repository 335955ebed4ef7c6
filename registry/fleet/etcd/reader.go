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
	connect func(patience time.Duration) (feed, error)
	random  func() float64 // in [0, 1)
}

// NewReader returns a reader of the etcd and the prefix of the options, of which it needs neither
// Host nor TTL nor Status. Nothing is connected to yet.
func NewReader(o Options) *Reader {
	r := &Reader{o: o, random: mathrand.Float64}
	r.connect = func(patience time.Duration) (feed, error) { return dialSource(o, patience) }
	return r
}

// List reads the fleet once.
func (r *Reader) List(ctx context.Context) (*view.Set, error) {
	f, err := r.connect(requestTime)
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
	failed, slow := 0, 0
	for ctx.Err() == nil {
		s := r.session(ctx, slow, deliver)
		if ctx.Err() != nil {
			return
		}
		good := !s.listed.IsZero() && time.Since(s.listed) >= goodSession
		if good || errors.Is(s.err, rpctypes.ErrCompacted) {
			failed, slow = 0, 0
		}
		if errors.Is(s.err, errSlow) {
			slow++
		}
		deliver(view.Batch{Kind: view.Lost, Err: s.err})
		wait(ctx, r.pause(failed, s.answered && s.listed.IsZero()))
		failed++
	}
}

// sitting is a list and a watch, as it ended.
type sitting struct {
	answered bool      // by a first page
	listed   time.Time // when the list was complete; zero: it was not
	err      error     // why it ended
}

func (r *Reader) session(ctx context.Context, slow int, deliver func(view.Batch)) (s sitting) {
	f, err := r.connect(doubled(requestTime, slow, longestRequest))
	if err != nil {
		return sitting{err: err}
	}
	defer f.close()
	revision, err := r.list(ctx, f, func(b view.Batch) {
		s.answered = s.answered || b.Kind == view.Page
		deliver(b)
	})
	if err != nil {
		s.err = err
		return s
	}
	s.listed = time.Now()
	s.err = f.watch(ctx, revision+1, deliver)
	return s
}

func (r *Reader) list(ctx context.Context, f feed, deliver func(view.Batch)) (int64, error) {
	deliver(view.Batch{Kind: view.Begin})
	revision, err := f.list(ctx, func(kvs []view.KV) { deliver(view.Batch{Kind: view.Page, KVs: kvs}) })
	if err == nil {
		deliver(view.Batch{Kind: view.End, Revision: revision})
	}
	return revision, err
}

// pause doubles with each failure, and is shortened at random by up to a half. It grows longer
// where a member answered and a list failed nevertheless: to ask again is work for etcd then.
func (r *Reader) pause(failed int, brokeOff bool) time.Duration {
	longest := longestAway
	if brokeOff {
		longest = longestRetry
	}
	p := doubled(firstReread, failed, longest)
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
