package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// Bounds of a connection.
const (
	// alive is how often a silent connection is tried. A server permits it each five seconds.
	alive     = 6 * time.Second
	aliveWait = 3 * time.Second
	// longestDial is the longest pause before a member that is away is tried again.
	longestDial = 4 * time.Second
	// nextMember is the pause before another member is asked where one has no leader. It doubles,
	// up to longestElection; together they are less than requestTime, and more than etcd needs to
	// elect a leader as it is installed.
	nextMember      = 100 * time.Millisecond
	longestElection = 800 * time.Millisecond
	elections       = 5
	// answerLimit bounds an answer, in bytes: the keys of one host.
	answerLimit = 4 << 20
)

// client is a connection for one session.
type client struct {
	c        *clientv3.Client
	attempts *attempts
	host     string        // the host's key
	pools    string        // the prefix of its pools' keys
	models   string        // the key of its models
	ttl      int64         // seconds
	work     time.Duration // bounds each request but the first, until the session has begun
	steady   time.Duration // and from then on
	renewals sync.WaitGroup
}

// dial returns a client, which connects when it is first used; with a password it does now.
// patience bounds its first request. The others have the time of the lease, if that is more: where
// it is lost, the session ends anyway, and to begin another one is more work for etcd. In a session
// that has begun they have that time alone: an etcd whose leader died between may have lost what it
// was asked, without an answer.
func dial(o Options, patience time.Duration) (store, error) {
	c, a, err := connection(o, patience, answerLimit)
	if err != nil {
		return nil, err
	}
	keys := record.Below(o.Prefix)
	machine := o.Host.MachineID
	steady := max(requestTime, min(o.TTL, longestRequest))
	return &client{c: c, attempts: a, host: keys.Host(machine), pools: keys.Pools(machine),
		models: keys.Models(machine), ttl: int64(o.TTL.Seconds()), work: max(patience, steady), steady: steady}, nil
}

// connection is one to the members; limit bounds an answer, in bytes.
func connection(o Options, patience time.Duration, limit int) (*clientv3.Client, *attempts, error) {
	a := &attempts{patience: patience}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: o.TLS, Username: o.User, Password: o.Password,
		DialTimeout: requestTime, DialKeepAliveTime: alive, DialKeepAliveTimeout: aliveWait,
		MaxCallRecvMsgSize: limit, Logger: zap.NewNop(),
		DialOptions: append(a.options(o), grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: requestTime, Backoff: backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2,
				MaxDelay: longestDial}})),
	})
	if err != nil {
		return nil, nil, a.explain(err, patience)
	}
	return c, a, nil
}

// asks makes a request within some time. A member that has no leader refuses it before it does
// anything, and another one that is connected is asked: that member may be cut off from the others.
// Where none has a leader they are asked again over the time of an election, which costs less than
// to begin another session after it.
func (c *client) asks(ctx context.Context, within time.Duration, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), within)
	defer cancel()
	err := request(ctx)
	for n := 0; n < elections && errors.Is(err, rpctypes.ErrNoLeader) && ctx.Err() == nil; n++ {
		wait(ctx, doubled(nextMember, n, longestElection))
		err = request(ctx)
	}
	return c.attempts.explain(err, within)
}

func (c *client) look(ctx context.Context) (f found, err error) {
	var resp *clientv3.TxnResponse
	err = c.asks(ctx, c.attempts.patience, func(ctx context.Context) (err error) {
		resp, err = c.c.Txn(ctx).Then(clientv3.OpGet(c.host),
			clientv3.OpGet(c.pools, clientv3.WithPrefix(), clientv3.WithKeysOnly())).Commit()
		return err
	})
	if err != nil {
		return found{}, err
	}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		f.revision, f.host = kv.ModRevision, kv.Value
	}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		f.pools = append(f.pools, string(kv.Key))
	}
	return f, nil
}

func (c *client) grant(ctx context.Context) (int64, <-chan struct{}, error) {
	granted, err := c.lease(ctx, c.ttl)
	if err != nil {
		return 0, nil, err
	}
	renewed, err := c.c.KeepAlive(ctx, granted) // its stream goes on at a member that has a leader
	if err != nil {
		return 0, nil, fmt.Errorf("renew the lease: %w", err)
	}
	lost := make(chan struct{})
	c.renewals.Go(func() {
		defer close(lost)
		for range renewed { // ends with the lease, ctx or the client
		}
	})
	return int64(granted), lost, nil
}

func (c *client) lease(ctx context.Context, seconds int64) (id clientv3.LeaseID, err error) {
	err = c.asks(ctx, c.work, func(ctx context.Context) error {
		granted, err := c.c.Grant(ctx, seconds)
		if err == nil {
			id = granted.ID
		}
		return err
	})
	return id, err
}

func (c *client) begin(ctx context.Context, revision, lease int64, changes []change) error {
	return c.txn(ctx, clientv3.Compare(clientv3.ModRevision(c.host), "=", revision), lease, changes)
}

func (c *client) write(ctx context.Context, lease int64, changes []change) error {
	return c.txn(ctx, clientv3.Compare(clientv3.LeaseValue(c.host), "=", lease), lease, changes)
}

func (c *client) txn(ctx context.Context, guard clientv3.Cmp, lease int64, changes []change) error {
	ops := make([]clientv3.Op, len(changes))
	for i, ch := range changes {
		if ch.value == nil {
			ops[i] = clientv3.OpDelete(ch.key)
		} else {
			ops[i] = clientv3.OpPut(ch.key, string(ch.value), clientv3.WithLease(clientv3.LeaseID(lease)))
		}
	}
	return c.asks(ctx, c.work, func(ctx context.Context) error {
		resp, err := c.c.Txn(ctx).If(guard).Then(ops...).Commit()
		if err == nil && !resp.Succeeded {
			return errTaken
		}
		return err
	})
}

func (c *client) check(ctx context.Context, lease int64, keys int) error {
	return c.asks(ctx, c.work, func(ctx context.Context) error {
		resp, err := c.c.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(c.host), "=", lease)).
			Then(clientv3.OpGet(c.pools, clientv3.WithPrefix(), clientv3.WithCountOnly()),
				clientv3.OpGet(c.models, clientv3.WithCountOnly())).Commit()
		if err != nil {
			return err
		}
		var there int64
		for _, r := range resp.Responses {
			there += r.GetResponseRange().Count
		}
		if !resp.Succeeded || there != int64(keys) {
			return errTaken
		}
		return nil
	})
}

func (c *client) conflict(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	lease, err := c.lease(ctx, int64(ttl.Seconds()))
	if err != nil {
		return err
	}
	return c.asks(ctx, c.work, func(ctx context.Context) error {
		_, err := c.c.Put(ctx, key, string(value), clientv3.WithLease(lease))
		return err
	})
}

func (c *client) begun() { c.work = c.steady }

func (c *client) gone(ctx context.Context, revision int64, most time.Duration) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), most)
	defer cancel()
	for resp := range c.c.Watch(ctx, c.host, clientv3.WithRev(revision+1)) {
		if len(resp.Events) > 0 {
			return
		}
	}
	<-ctx.Done() // what ends a watch early is seen at the next look
}

func (c *client) revoke(ctx context.Context, lease int64) error {
	_, err := c.c.Revoke(ctx, clientv3.LeaseID(lease))
	return c.attempts.explain(err, c.work)
}

func (c *client) close() {
	_ = c.c.Close() // nothing is to be written after it
	c.renewals.Wait()
}
