package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// Bounds of a list.
const (
	// pageKeys is how many keys one request lists; pageLimit bounds its answer, in bytes.
	pageKeys  = 200
	pageLimit = 32 << 20
)

// source is a connection for one session of a reader.
type source struct {
	c        *clientv3.Client
	attempts *attempts
	prefix   string
}

func dialSource(o Options, patience time.Duration) (feed, error) {
	c, a, err := connection(o, patience, pageLimit)
	if err != nil {
		return nil, err
	}
	return &source{c, a, record.Below(o.Prefix).All()}, nil
}

// list asks for one page after another, all as of the revision of the first. A compaction in
// between is an error.
func (s *source) list(ctx context.Context, page func([]view.KV)) (revision int64, err error) {
	key, end := s.prefix, clientv3.GetPrefixRangeEnd(s.prefix)
	for {
		resp, err := s.page(ctx, key, end, revision)
		if err != nil {
			return 0, s.attempts.explain(err, s.attempts.patience)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		kvs := make([]view.KV, len(resp.Kvs))
		for i, kv := range resp.Kvs {
			kvs[i] = view.KV{Key: string(kv.Key), Value: present(kv.Value)}
		}
		page(kvs)
		if !resp.More || len(kvs) == 0 {
			return revision, nil
		}
		key = kvs[len(kvs)-1].Key + "\x00" // the next one there can be
	}
}

func (s *source) page(ctx context.Context, key, end string, revision int64) (*clientv3.GetResponse, error) {
	// a member without a leader refuses at once, and the client asks the next one
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), s.attempts.patience)
	defer cancel()
	return s.c.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(pageKeys), clientv3.WithRev(revision))
}

// present is a value that is there; empty ones are.
func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

func (s *source) watch(ctx context.Context, from int64, deliver func(view.Batch)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	changes := s.c.Watch(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment())
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	heard := time.Now()
	for {
		select {
		case resp, open := <-changes:
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case !open:
				return errEnded
			case resp.Err() != nil: // with a compaction, too
				return s.attempts.explain(resp.Err(), s.attempts.patience)
			}
			heard = time.Now()
			deliver(batchOf(resp))
		case <-tick.C:
			switch since := time.Since(heard); {
			case since >= silence:
				return errSilent
			case since >= quiet/2:
				s.askProgress(ctx)
			}
		}
	}
}

// askProgress has the watch answer although nothing changed. Where the stream is broken that fails,
// and the silence that follows is what counts.
func (s *source) askProgress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quiet/2)
	defer cancel()
	_ = s.c.RequestProgress(ctx)
}

func batchOf(resp clientv3.WatchResponse) view.Batch {
	if len(resp.Events) == 0 {
		return view.Batch{Kind: view.Alive}
	}
	b := view.Batch{Kind: view.Changed, Revision: resp.Header.Revision, KVs: make([]view.KV, len(resp.Events))}
	for i, e := range resp.Events {
		b.KVs[i].Key = string(e.Kv.Key)
		if e.Type == clientv3.EventTypePut {
			b.KVs[i].Value = present(e.Kv.Value)
		}
	}
	return b
}

func (s *source) close() { _ = s.c.Close() } // nothing was written
