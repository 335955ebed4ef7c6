package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// Leases is what the API needs from the book of leases. The book writes to a file in memory, so its
// calls need no deadline of their own.
type Leases struct {
	Book *lease.Book
	Now  func() lease.Moment
	// Rejected counts a refused call, by reason: draining, unready, exhausted, lost, unknown or
	// store. It may be nil.
	Rejected func(reason string)
	// Wanted is called with the pool before a lease of it is taken. It must return at once, and may
	// be nil.
	Wanted func(pool string)
}

// backoff is the Retry-After for a caller without a slot. A slot is released when a request ends,
// and a second is a short request.
const backoff = time.Second

// policyReject is the policy_label of a call without a slot: a full pool refuses it and does not
// queue it.
const policyReject = "reject"

func (s *Server) leaseRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/pools/{id}/leases", accessRead, s.getLeases},
		{http.MethodPost, "/v1/pools/{id}/leases", accessWrite, s.postLease},
		{http.MethodPut, "/v1/pools/{id}/leases/{lease}", accessWrite, s.putLease},
		{http.MethodDelete, "/v1/pools/{id}/leases/{lease}", accessWrite, s.deleteLease},
	}
}

func (s *Server) getLeases(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	list := wire.LeaseList{Leases: []wire.Lease{}}
	for _, l := range s.leases.Book.Leases(p.ID) {
		list.Leases = append(list.Leases, s.leaseOf(l))
	}
	return answerList(w, r, list)
}

func (s *Server) postLease(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	var body wire.LeaseRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	ttl, err := ttlOf(body.TTLMS)
	if err != nil {
		return err
	}
	if len(body.Holder) > lease.MaxHolder || body.Holder != "" && !printable(body.Holder) {
		return invalidParams(fmt.Sprintf("holder is invalid: it must be at most %d printable ASCII characters",
			lease.MaxHolder), "")
	}
	if body.ReplicaID != "" && !hasReplica(p, body.ReplicaID) {
		return invalidParams(fmt.Sprintf("pool %s has no replica %.20q", p.ID, body.ReplicaID),
			"Omit replica_id for the least loaded replica; GET /v1/pools/"+p.ID+" lists them.")
	}
	key, err := onceOf(w, r, exchangeOf(w).body)
	if err != nil {
		return err
	}
	ask := lease.Ask{Pool: p.ID, Replica: body.ReplicaID, Holder: body.Holder, TTL: ttl}
	ask.Key, ask.Sum = key.lease()
	if s.leases.Wanted != nil {
		s.leases.Wanted(p.ID)
	}
	l, err := s.leases.Book.Acquire(r.Context(), ask)
	if err != nil {
		if errors.Is(err, lease.ErrStore) { // it was counted meanwhile
			s.registry.LeasesChanged(p.ID)
		}
		return s.noLease(w, p, err)
	}
	return answerStatus(w, http.StatusCreated, s.leaseOf(l))
}

func (s *Server) putLease(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	var body wire.RenewRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	ttl, err := ttlOf(body.TTLMS)
	if err != nil {
		return err
	}
	l, err := s.leases.Book.Renew(r.Context(), p.ID, r.PathValue("lease"), ttl)
	if err != nil {
		return s.noLease(w, p, err)
	}
	return answer(w, s.leaseOf(l))
}

func (s *Server) deleteLease(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	if err := s.leases.Book.Release(r.Context(), p.ID, r.PathValue("lease")); err != nil {
		s.registry.LeasesChanged(p.ID) // the slot is free all the same
		return s.noLease(w, p, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ttlOf validates a time to live; an absent one is 0.
func ttlOf(ms *int64) (time.Duration, error) {
	switch {
	case ms == nil:
		return 0, nil
	case *ms < lease.MinTTL.Milliseconds() || *ms > lease.MaxTTL.Milliseconds():
		return 0, invalidParams(fmt.Sprintf("ttl_ms is %d; it must be %d to %d", *ms, lease.MinTTL.Milliseconds(),
			lease.MaxTTL.Milliseconds()),
			fmt.Sprintf("Omit it for the default, %d.", lease.DefaultTTL.Milliseconds()))
	}
	return time.Duration(*ms) * time.Millisecond, nil
}

// hasReplica reports whether the pool has a replica with that id, or with that name, which is
// stable over reloads.
func hasReplica(p *registry.Pool, id string) bool {
	for i := range p.Replicas {
		if r := &p.Replicas[i]; r.ID == id || r.Name != "" && r.Name == id {
			return true
		}
	}
	return false
}

// leaseOf returns a lease for callers, with its expiry on the wall clock.
func (s *Server) leaseOf(l lease.Lease) wire.Lease {
	now, wall := s.leases.Now(), s.now()
	out := wire.Lease{LeaseID: l.ID, PoolID: l.Pool, ReplicaID: l.Replica, Endpoint: l.Endpoint, Holder: l.Holder,
		ExpiresAtMS: wall.Add(l.Expires.Sub(now)).UnixMilli()}
	if l.Taken != 0 {
		out.TakenAtMS = new(wall.Add(l.Taken.Sub(now)).UnixMilli())
	}
	return out
}

// RejectionReasons are the reasons with which lease calls are refused, for a metric's label.
func RejectionReasons() []string {
	return []string{"draining", "unready", "exhausted", "lost", "unknown", "store"}
}

// noLease returns the response to a refused call: the reason, and when to retry.
func (s *Server) noLease(w http.ResponseWriter, p *registry.Pool, err error) error {
	var lost *lease.LostError
	var e *Error
	reason := ""
	switch {
	case errors.Is(err, lease.ErrNoPool):
		return noSuchPool(p.ID)
	case errors.Is(err, lease.ErrKeyUsed):
		return keyReused()
	case errors.Is(err, lease.ErrDraining):
		reason, e = "draining", problem(http.StatusConflict, "POOL_DRAINING",
			fmt.Sprintf("pool %s is draining and takes no new work", p.ID),
			"Use another pool; poolctl resume ends the drain.")
		e.Body.Retriable = true
	case errors.Is(err, lease.ErrNotReady):
		reason, e = "unready", problem(http.StatusServiceUnavailable, "POOL_UNREADY",
			fmt.Sprintf("no replica of pool %s is ready (%s)", p.ID, p.State), unreadyHint(p))
		e.Body.Retriable = !waitsForAnOperator(p.State)
	case errors.Is(err, lease.ErrExhausted):
		reason, e = "exhausted", problem(http.StatusTooManyRequests, "SLOTS_EXHAUSTED",
			fmt.Sprintf("every slot of pool %s is in use", p.ID), "Try again when a request has ended.")
		e.Body.PolicyLabel, e.Body.Engine = policyReject, p.Engine
		w.Header().Set("X-Backoff-Ms", strconv.FormatInt(backoff.Milliseconds(), 10))
	case errors.As(err, &lost):
		reason, e = "lost", problem(http.StatusGone, "LEASE_LOST", "the lease is lost: "+lost.Why, "Take a new lease.")
	case errors.Is(err, lease.ErrUnknown):
		reason, e = "unknown", problem(http.StatusNotFound, "LEASE_NOT_FOUND",
			"no such lease: it was released, ended long ago, or never existed", "Take a new lease.")
	case errors.Is(err, lease.ErrStore):
		reason, e = "store", problem(http.StatusServiceUnavailable, string(registry.CodeStateNotSaved), err.Error(),
			"See the log of pool-managerd, and the free space in /run.")
	default:
		return err
	}
	if e.Body.Retriable {
		e.Body.RetryAfterMS = backoff.Milliseconds()
	}
	if s.leases.Rejected != nil {
		s.leases.Rejected(reason)
	}
	return e
}

// waitsForAnOperator reports whether a pool in a state starts only when someone changes something.
func waitsForAnOperator(s registry.State) bool {
	return s == registry.StateStopped || s == registry.StateRefused || s == registry.StateInvalid
}

// unreadyHint is what to do about a pool that is not ready.
func unreadyHint(p *registry.Pool) string {
	switch {
	case p.State == registry.StateStopped:
		why := ""
		if len(p.Replicas) > 0 && p.Replicas[0].Reason != "" {
			why = " (" + p.Replicas[0].Reason + ")"
		}
		return "The pool is stopped" + why + " and does not start by itself; poolctl resume " + p.ID + " starts it."
	case p.LastError != nil:
		return p.LastError.Error() + ". " + p.LastError.Hint
	case p.State == registry.StateStopping, p.State == registry.StateDraining:
		return "The pool is being stopped; use another one."
	}
	return "The pool is starting; try again."
}
