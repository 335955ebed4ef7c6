package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

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
	work     time.Duration // bounds each request but the first
	renewals sync.WaitGroup
}

// dial returns a client, which connects when it is first used; with a password it does now.
// patience bounds its first request. The others have the time of the lease, if that is more: where
// it is lost, the session ends anyway, and to begin another one is more work for etcd.
func dial(o Options, patience time.Duration) (store, error) {
	c, a, err := connection(o, patience, answerLimit)
	if err != nil {
		return nil, err
	}
	keys := record.Below(o.Prefix)
	machine := o.Host.MachineID
	return &client{c: c, attempts: a, host: keys.Host(machine), pools: keys.Pools(machine),
		models: keys.Models(machine), ttl: int64(o.TTL.Seconds()),
		work: max(patience, min(o.TTL, longestRequest))}, nil
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

func (c *client) look(ctx context.Context) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, c.attempts.patience)
	defer cancel()
	resp, err := c.c.Txn(ctx).Then(clientv3.OpGet(c.host),
		clientv3.OpGet(c.pools, clientv3.WithPrefix(), clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return found{}, c.attempts.explain(err, c.attempts.patience)
	}
	var f found
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		f.revision, f.host = kv.ModRevision, kv.Value
	}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		f.pools = append(f.pools, string(kv.Key))
	}
	return f, nil
}

func (c *client) grant(ctx context.Context) (int64, <-chan struct{}, error) {
	short, cancel := context.WithTimeout(ctx, c.work)
	defer cancel()
	granted, err := c.c.Grant(short, c.ttl)
	if err != nil {
		return 0, nil, c.attempts.explain(err, c.work)
	}
	renewed, err := c.c.KeepAlive(ctx, granted.ID)
	if err != nil {
		return 0, nil, fmt.Errorf("renew the lease: %w", err)
	}
	lost := make(chan struct{})
	c.renewals.Go(func() {
		defer close(lost)
		for range renewed { // ends with the lease, ctx or the client
		}
	})
	return int64(granted.ID), lost, nil
}

func (c *client) begin(ctx context.Context, revision, lease int64, changes []change) error {
	return c.txn(ctx, clientv3.Compare(clientv3.ModRevision(c.host), "=", revision), lease, changes)
}

func (c *client) write(ctx context.Context, lease int64, changes []change) error {
	return c.txn(ctx, clientv3.Compare(clientv3.LeaseValue(c.host), "=", lease), lease, changes)
}

func (c *client) txn(ctx context.Context, guard clientv3.Cmp, lease int64, changes []change) error {
	ctx, cancel := context.WithTimeout(ctx, c.work)
	defer cancel()
	ops := make([]clientv3.Op, len(changes))
	for i, ch := range changes {
		if ch.value == nil {
			ops[i] = clientv3.OpDelete(ch.key)
		} else {
			ops[i] = clientv3.OpPut(ch.key, string(ch.value), clientv3.WithLease(clientv3.LeaseID(lease)))
		}
	}
	resp, err := c.c.Txn(ctx).If(guard).Then(ops...).Commit()
	if err == nil && !resp.Succeeded {
		return errTaken
	}
	return c.attempts.explain(err, c.work)
}

func (c *client) check(ctx context.Context, lease int64, keys int) error {
	ctx, cancel := context.WithTimeout(ctx, c.work)
	defer cancel()
	resp, err := c.c.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(c.host), "=", lease)).
		Then(clientv3.OpGet(c.pools, clientv3.WithPrefix(), clientv3.WithCountOnly()),
			clientv3.OpGet(c.models, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return c.attempts.explain(err, c.work)
	}
	var there int64
	for _, r := range resp.Responses {
		there += r.GetResponseRange().Count
	}
	if !resp.Succeeded || there != int64(keys) {
		return errTaken
	}
	return nil
}

func (c *client) conflict(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, c.work)
	defer cancel()
	granted, err := c.c.Grant(ctx, int64(ttl.Seconds()))
	if err != nil {
		return c.attempts.explain(err, c.work)
	}
	_, err = c.c.Put(ctx, key, string(value), clientv3.WithLease(granted.ID))
	return c.attempts.explain(err, c.work)
}

func (c *client) revoke(ctx context.Context, lease int64) error {
	_, err := c.c.Revoke(ctx, clientv3.LeaseID(lease))
	return c.attempts.explain(err, c.work)
}

func (c *client) close() {
	_ = c.c.Close() // nothing is to be written after it
	c.renewals.Wait()
}
