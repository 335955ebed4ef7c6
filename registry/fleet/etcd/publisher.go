package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// Publisher publishes one host. Make one with New.
type Publisher struct {
	o       Options
	keys    record.Keys
	connect func() (store, error)
	random  func() float64 // in [0, 1)
	self    record.Host    // without GPUs

	state fleet.State
	s     *session // nil: none
	began time.Time
	once  bool // this process has published the host

	failed   int      // attempts in a row
	strained int      // of them, the last ones in a row that a member answered at first
	slow     int      // of them, those that a connected member was too slow for
	reported bool     // one of them is logged
	hints    []string // of those that are logged
	held     holder
	status   string
}

// session is a lease with the host's key bound to it.
type session struct {
	store store
	found bool // etcd answered what it has of this host
	lease int64
	lost  <-chan struct{}
	plan  *plan
}

// New returns a publisher, which writes nothing yet.
func New(o Options) *Publisher {
	p := &Publisher{o: o, keys: record.Below(o.Prefix), random: mathrand.Float64}
	p.connect = func() (store, error) { return dial(o, p.patience()) }
	p.self = record.HostOf(o.Host, p.state.Devices)
	p.self.Instance, p.self.TTL = rand.Text(), o.TTL.Seconds()
	p.self.Started = time.Now().UTC().Format(time.RFC3339)
	return p
}

// Run publishes the states of a mailbox until ctx ends. Etcd has this host then until its lease
// ends or the next process takes it over; call Leave or Close.
func (p *Publisher) Run(ctx context.Context, states fleet.Mailbox) {
	for ctx.Err() == nil {
		if !p.state.Known {
			p.show("etcd: nothing is published while the manager does not answer")
			p.wait(ctx, states, 0)
			continue
		}
		err := p.begin(ctx)
		if err == nil {
			p.succeeded()
			err = p.serve(ctx, states)
		}
		if ctx.Err() == nil {
			p.wait(ctx, states, p.ended(ctx, err))
		}
	}
}

// Leave takes this host back from etcd. It takes goodbyeTime at most. Call it after Run, and not
// where this program is only replaced by another one.
func (p *Publisher) Leave(ctx context.Context) {
	if p.s != nil && p.s.lease != 0 {
		ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
		defer cancel()
		if err := p.s.store.revoke(ctx, p.s.lease); err != nil {
			p.o.Log.Warn("could not take this host back from etcd, which drops it when its lease ends: "+err.Error(),
				"ttl_ms", p.o.TTL.Milliseconds())
		}
	}
	p.Close()
}

// Close ends the connection, after Run. Etcd keeps this host until its lease ends.
func (p *Publisher) Close() {
	if p.s != nil {
		p.s.store.close()
		p.s = nil
	}
}

// wait takes states for a while, or until the next one if d is 0.
func (p *Publisher) wait(ctx context.Context, states fleet.Mailbox, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case p.state = <-states:
			if over == nil {
				return
			}
		}
	}
}

// begin makes a session: a lease, the host's key bound to it, and every pool.
func (p *Publisher) begin(ctx context.Context) error {
	st, err := p.connect()
	if err != nil {
		return err
	}
	s := &session{store: st}
	p.s = s
	f, err := st.look(ctx)
	if err != nil {
		return err
	}
	s.found = true
	if by, is := p.holderOf(f); is {
		return &by
	}
	if s.lease, s.lost, err = st.grant(ctx); err != nil {
		return err
	}
	s.plan = newPlan(f.pools, time.Now())
	p.want(s.plan)
	for i, batch := range s.plan.whole(p.keys.Host(p.self.MachineID)) {
		begun := time.Now()
		if i == 0 {
			err = st.begin(ctx, f.revision, s.lease, batch)
		} else {
			err = st.write(ctx, s.lease, batch)
		}
		if err != nil {
			return err
		}
		s.plan.wrote(batch, begun, time.Now())
		p.o.Progress.Wrote(len(batch))
	}
	st.begun()
	return nil
}

// serve writes what changes until the session ends, and returns why it did.
func (p *Publisher) serve(ctx context.Context, states fleet.Mailbox) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.NewTicker(checks)
	defer look.Stop()
	for {
		batch, again := p.s.plan.next(time.Now())
		if len(batch) > 0 {
			begun := time.Now()
			if err := p.s.store.write(ctx, p.s.lease, batch); err != nil {
				return err
			}
			p.s.plan.wrote(batch, begun, time.Now())
			p.o.Progress.Wrote(len(batch))
			continue
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(time.Until(again))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.s.lost:
			return errLost
		case <-timer.C:
		case <-look.C:
			if err := p.s.store.check(ctx, p.s.lease, p.s.plan.kept(p.keys.Host(p.self.MachineID))); err != nil {
				return err
			}
		case p.state = <-states:
			if !p.state.Known {
				return errUnknown
			}
			p.want(p.s.plan)
			p.showPools()
		}
	}
}

// want replaces what is to be in etcd.
func (p *Publisher) want(in *plan) {
	machine := p.self.MachineID
	in.set(p.keys.Host(machine), p.host(), nil)
	if p.state.Models != nil {
		in.set(p.keys.Models(machine), record.Encode(record.ModelsOf(machine, p.state.Models)), nil)
	}
	in.wantPools(p.pools())
}

// host is the value of the host's key.
func (p *Publisher) host() []byte {
	h := p.self
	seen := record.HostOf(p.o.Host, p.state.Devices)
	h.GPUs, h.Driver = seen.GPUs, seen.Driver
	return record.Encode(h)
}

// pools are the records of all pools, by key.
func (p *Publisher) pools() map[string]*record.Pool {
	all := make(map[string]*record.Pool, len(p.state.Pools))
	for i := range p.state.Pools {
		r := record.PoolOf(&p.state.Pools[i])
		all[p.keys.Pool(p.self.MachineID, r.ID)] = &r
	}
	return all
}

// succeeded is a session that began.
func (p *Publisher) succeeded() {
	if !p.once {
		p.o.Log.Info("this host is published in etcd", "prefix", p.o.Prefix, "pools", len(p.state.Pools))
	} else if p.reported {
		p.o.Log.Info("etcd has this host again", "attempts", p.failed+1, "pools", len(p.state.Pools))
	}
	p.once, p.reported, p.began, p.held = true, false, time.Now(), holder{}
	p.showPools()
}

// ended is a session that ended, or did not begin. It returns the pause before the next one.
func (p *Publisher) ended(ctx context.Context, err error) time.Duration {
	var by *holder
	pause := time.Millisecond
	switch {
	case errors.Is(err, errUnknown): // the manager's follower logs it
		p.o.Progress.Ended()
		p.Leave(ctx)
		return pause
	case errors.As(err, &by):
		pause = p.blocked(ctx, *by)
	default:
		cutShort := p.count(err)
		p.o.Progress.Failed(err)
		pause = p.retry(cutShort)
		p.report(err, pause)
	}
	p.Close()
	return pause
}

// count takes a failure into account, and returns whether it is of a session that had published
// everything, and not since etcd had too much to do.
func (p *Publisher) count(err error) (cutShort bool) {
	if !p.began.IsZero() && time.Since(p.began) >= p.o.TTL {
		p.failed, p.strained, p.slow, p.hints = 0, 0, 0, nil // the session was a good one
	}
	cutShort = !p.began.IsZero() && !isStrain(err)
	p.began = time.Time{}
	p.failed++
	p.strained++
	if cutShort || p.s == nil || !p.s.found {
		p.strained = 0
	}
	if errors.Is(err, errSlow) {
		p.slow++
	}
	return cutShort
}

// retry is the pause after a failure that count has taken into account.
func (p *Publisher) retry(cutShort bool) time.Duration {
	switch {
	case cutShort:
		return p.pause(p.failed, longestAfter)
	case p.strained > 0:
		return p.pause(p.strained, longestRetry)
	}
	// together with a request that fails it is within the lease's time and two seconds
	return p.pause(p.failed, min(longestAway, p.o.TTL*2/3))
}

// pause is the nth in a row, longest at most.
func (p *Publisher) pause(n int, longest time.Duration) time.Duration {
	pause := doubled(firstRetry, n-1, longest)
	return pause - time.Duration(p.random()*float64(pause)/2)
}

// patience is the time of a request.
func (p *Publisher) patience() time.Duration { return doubled(requestTime, p.slow, longestRequest) }

// doubled is d after n doublings, most at most.
func doubled(d time.Duration, n int, most time.Duration) time.Duration {
	return min(most, d<<min(n, 8))
}

// report logs the first failure of a row, each that has another hint than those before, and each
// tenth.
func (p *Publisher) report(err error, pause time.Duration) {
	p.show(fmt.Sprintf("etcd: not published (failed attempts: %d): %v", p.failed, err))
	hint := hintOf(err)
	known := slices.Contains(p.hints, hint)
	if known && p.failed != 1 && p.failed%10 != 0 {
		return
	}
	if p.reported = true; !known {
		p.hints = append(p.hints, hint)
	}
	p.o.Log.Warn("could not publish this host in etcd: "+err.Error(), "endpoints", p.o.Endpoints,
		"attempts", p.failed, "retry_ms", pause.Milliseconds(), "hint", hint)
}

func (p *Publisher) showPools() {
	p.show(fmt.Sprintf("etcd: %d pools published below %s", len(p.state.Pools), p.o.Prefix))
}

// show passes a line for people on, where it differs from the former.
func (p *Publisher) show(line string) {
	if line != p.status {
		p.status = line
		p.o.Status(line)
	}
}
