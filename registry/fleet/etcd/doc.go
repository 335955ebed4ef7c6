// Package etcd publishes a host in etcd, and reads what all hosts published: a key for the host,
// one for each pool and one for its cache of models, all bound to one lease, so that a host which
// dies, hangs or is cut off vanishes within the lease's time.
//
// It owns what is written and read, when, and what follows a failure. It must not know who uses
// what is read: package view turns it into a fleet. Nothing on this host waits for it.
//
// What makes publishing right:
//   - A session is a lease and the host's key bound to it. Every write compares that the host's key
//     is still bound to this lease, so that none of a former session can be carried out later.
//   - A write that failed ends its session, also where etcd may have carried it out. The next one
//     takes the host's key over by its revision, writes everything and deletes every other pool of
//     the host. No clock of another machine is used.
//   - An attempt begins with one small read. While no member answers that, it is repeated soon; a
//     member that answers and cannot do the rest in time has longer pauses and more time.
//   - The host's key of another boot is never overwritten. It goes with its lease. One that is
//     there after the time of that lease is of another host with the same machine-id, which is
//     logged and published as a conflict.
//
// What makes reading right:
//   - A session is a whole list at one revision, and a watch from the next one on. Whatever ends it
//     (a compaction, a new leader, a lost connection, silence), the next one begins with a list.
//   - A watch that is silent is asked for its progress; one that does not answer that has ended.
//   - A member that has lost its leader ends the watch, so that nothing old is taken for new.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// Options are where etcd is, and who publishes there.
type Options struct {
	Endpoints []string
	Prefix    string
	TTL       time.Duration // of the lease; whole seconds
	TLS       *tls.Config   // nil: none
	User      string        // empty: no password is sent
	Password  string
	Host      fleet.Host
	Log       *slog.Logger
	Status    func(string)    // is called with a line for people whenever it changed
	Progress  *fleet.Progress // nil: no one is interested
}

// Bounds of the pace.
const (
	// requestTime bounds the first request, and the others where a lease's time is less. Each time
	// that a connected member was too slow for it, it doubles, up to longestRequest: what is given
	// up had its work done in vain, and begins again.
	requestTime    = 3 * time.Second
	longestRequest = 12 * time.Second
	goodbyeTime    = 2 * time.Second
	// firstRetry is the pause before another session. It doubles with each failure in a row: up to
	// longestAfter where the session had published everything, up to longestAway (or less, where
	// the lease's time is short) while no member answers the first request, which costs etcd
	// little, and up to longestRetry where one answered it and the rest failed. It is shortened at
	// random by up to a half, so that many hosts do not come back at one moment.
	firstRetry   = 500 * time.Millisecond
	longestAfter = time.Second
	longestAway  = 4 * time.Second
	longestRetry = 15 * time.Second
	// checks is how often is looked whether what was written is still there: a person may delete
	// keys.
	checks = 30 * time.Second
	// slack is how much longer than its lease's time the key of another boot may be there: etcd
	// looks for leases that ended twice a second, and after an election all of them begin again.
	slack = 2 * time.Second
)

// Reasons for which a session ended or did not begin, beside those of requests.
var (
	errLost    = errors.New("etcd ended the lease of this host: it was not renewed in time, or was revoked")
	errTaken   = errors.New("the key of this host was changed or deleted by another")
	errUnknown = errors.New("the manager does not answer")
	errSlow    = errors.New("etcd is connected and did not answer")
)

// isStrain reports whether a request failed since etcd has too much to do.
func isStrain(err error) bool {
	return errors.Is(err, errSlow) || errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, rpctypes.ErrTooManyRequests)
}

// store is what is needed of etcd; *client is one.
type store interface {
	// look returns the host's key and the names of its pools' keys.
	look(ctx context.Context) (found, error)
	// grant makes the session's lease, and keeps it alive until ctx ends or lost is closed.
	grant(ctx context.Context) (lease int64, lost <-chan struct{}, err error)
	// begin makes changes, where the host's key is still as found; errTaken: it is not.
	begin(ctx context.Context, revision, lease int64, changes []change) error
	// begun is called once when all is written, after which requests have less time.
	begun()
	// gone waits until the host's key, found at a revision, changes or is deleted, or for a while.
	gone(ctx context.Context, revision int64, most time.Duration)
	// write makes changes, where the host's key is bound to the lease; errTaken: it is not.
	write(ctx context.Context, lease int64, changes []change) error
	// check reports errTaken where the host's key is not bound to the lease, or there are more or
	// fewer other keys of the host.
	check(ctx context.Context, lease int64, keys int) error
	// conflict publishes for a while that another host has this one's machine-id.
	conflict(ctx context.Context, key string, value []byte, ttl time.Duration) error
	revoke(ctx context.Context, lease int64) error
	close()
}

// found is what etcd had of a host.
type found struct {
	revision int64 // of the last change of the host's key; 0: there is none
	host     []byte
	pools    []string // keys
}

// change is one key that is written, or deleted if the value is nil.
type change struct {
	key   string
	value []byte
}
