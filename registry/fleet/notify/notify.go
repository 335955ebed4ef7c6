package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// Bounds of the pace.
const (
	// leastGap is the least time between two heartbeats, also of a pool that flaps.
	leastGap = 250 * time.Millisecond
	// firstRetry and longestRetry bound the pause after a failure. It doubles, and is shortened at
	// random by up to a half, so that many hosts do not come back at one moment.
	firstRetry   = time.Second
	longestRetry = 30 * time.Second
	// requestTime bounds a request, goodbyeTime the last one.
	requestTime = 5 * time.Second
	goodbyeTime = 2 * time.Second
)

// Options are where the orchestrator is, and who reports to it.
type Options struct {
	URL      string // without the path of the protocol
	Token    string // empty: none is sent
	NodeID   string
	Host     fleet.Host
	Interval time.Duration // between heartbeats
	HTTP     *http.Client
	Log      *slog.Logger
	Progress *fleet.Progress // nil: no one is interested
}

// Reporter reports to one orchestrator. Make one with New.
type Reporter struct {
	o      Options
	random func() float64 // in [0, 1)

	state  fleet.State
	sent   registration // what the orchestrator has, if registered
	in     bool         // it is registered
	last   time.Time    // of the last heartbeat
	avail  []pool       // what that reported of the pools
	failed int          // attempts in a row
	due    time.Time    // of the next request
}

// New returns a reporter, which sends nothing yet.
func New(o Options) *Reporter {
	client := *o.HTTP
	// a redirect would get the token
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP = &client
	return &Reporter{o: o, random: rand.Float64}
}

// Run reports the states of a mailbox until ctx ends. The orchestrator then still has this host:
// see Leave.
func (r *Reporter) Run(ctx context.Context, states fleet.Mailbox) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r.state = <-states:
			r.noticed(time.Now())
		case <-timer.C:
			r.act(ctx)
		}
		if r.state.Known {
			timer.Reset(time.Until(r.due))
		} else {
			r.o.Progress.Ended()
			timer.Stop() // what is not known is not reported: the orchestrator takes this node as stale
		}
	}
}

// noticed decides whether a new state is reported before the next heartbeat.
func (r *Reporter) noticed(now time.Time) {
	if !r.state.Known || r.failed > 0 || !r.in {
		return
	}
	if !slices.Equal(r.avail, availability(r.state)) {
		if soon := latest(now, r.last.Add(leastGap)); soon.Before(r.due) {
			r.due = soon
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// act sends what is due: the registration where the orchestrator lacks it, then a heartbeat.
func (r *Reporter) act(ctx context.Context) {
	if !r.state.Known {
		return
	}
	err := r.register(ctx)
	if err == nil {
		err = r.beat(ctx)
	}
	now := time.Now()
	switch {
	case err == nil:
		if r.failed > 0 {
			r.o.Log.Info("the orchestrator has this host again", "url", r.o.URL, "attempts", r.failed+1)
		}
		r.failed, r.due = 0, now.Add(r.o.Interval)
		r.o.Progress.Wrote(1)
	case ctx.Err() != nil:
	default:
		r.failed++
		r.o.Progress.Failed(err)
		wait := r.pause(err)
		r.due = now.Add(wait)
		r.report(err, wait)
	}
}

func (r *Reporter) register(ctx context.Context) error {
	body := registrationOf(r.o.NodeID, r.o.Host, r.state)
	if r.in && sameRegistration(body, r.sent) {
		return nil
	}
	if err := r.send(ctx, http.MethodPost, "/v2/nodes/register", body); err != nil {
		return err
	}
	if !r.in {
		r.o.Log.Info("registered at the orchestrator", "url", r.o.URL, "node_id", r.o.NodeID)
	}
	r.in, r.sent = true, body
	return nil
}

// beat sends a heartbeat. An orchestrator that does not know the node was restarted, or took it as
// gone: the next attempt registers it again.
func (r *Reporter) beat(ctx context.Context) error {
	now := time.Now()
	err := r.send(ctx, http.MethodPost, nodePath(r.o.NodeID)+"/heartbeat", heartbeatOf(r.state, now))
	if unknownNode(err) {
		r.in = false
	}
	if err == nil {
		r.last, r.avail = now, availability(r.state)
	}
	return err
}

// unknownNode reports whether an error is the orchestrator's answer that it lacks this node.
func unknownNode(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && refused.status == http.StatusNotFound
}

// Leave takes the host back from the orchestrator, also where only a former process had registered
// it. It takes goodbyeTime at most. Call it after Run, and not where this program is only replaced
// by another one.
func (r *Reporter) Leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
	defer cancel()
	if err := r.send(ctx, http.MethodDelete, nodePath(r.o.NodeID), nil); err != nil && !unknownNode(err) {
		r.o.Log.Warn("could not take this host back from the orchestrator, which will take it as stale: "+err.Error(),
			"url", r.o.URL)
	}
}

// Close ends without taking the host back: there is nothing to close.
func (r *Reporter) Close() {}

// pause is the time until the next attempt: the orchestrator's wish, if it has one.
func (r *Reporter) pause(err error) time.Duration {
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.after > 0:
		return min(refused.after, longestRetry)
	case unknownNode(err) && r.failed == 1:
		return leastGap
	}
	wait := longestRetry
	if r.failed < 6 {
		wait = min(longestRetry, firstRetry<<(r.failed-1))
	}
	return wait - time.Duration(r.random()*float64(wait)/2)
}

// report logs the first failure of a row, and then each tenth.
func (r *Reporter) report(err error, wait time.Duration) {
	if r.failed != 1 && r.failed%10 != 0 {
		return
	}
	hint := "Nothing on this host depends on it. Is [orchestrator] url in config.toml right?"
	var refused *refusal
	if errors.As(err, &refused) && (refused.status == http.StatusUnauthorized ||
		refused.status == http.StatusForbidden) {
		hint = "Write the orchestrator's token to the file that [orchestrator] token_file in config.toml names."
	}
	r.o.Log.Warn("could not report this host to the orchestrator: "+err.Error(), "url", r.o.URL,
		"attempts", r.failed, "retry_ms", wait.Milliseconds(), "hint", hint)
}
