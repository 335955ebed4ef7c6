package supervise

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// crowdFrom is how many connections of one user to an engine's port are named as what may keep it
// from answering. A server with a thread for each connection, as llama-server is, has fewer.
const crowdFrom = 64

// A crowd is the reason of late answers, and no restart helps against it, if the engine goes on
// accepting connections, as one that hangs does not. One that has as many as it can open accepts
// none: then the crowd has to be larger than that of clients who wait for answers.
const (
	crowdSure    = 1024
	crowdPerSlot = 8
)

// crowd is who has many connections to an engine's port.
type crowd struct {
	listen.Clients
}

// crowdAt looks at the connections to an endpoint; without a crowd, the zero value.
func (s *Supervisor) crowdAt(endpoint string) crowd {
	at, err := netip.ParseAddrPort(hostOf(endpoint))
	if err != nil || s.o.Crowd == nil {
		return crowd{}
	}
	found, err := s.o.Crowd(int(at.Port()))
	if err != nil || found.Connections < crowdFrom {
		return crowd{}
	}
	return crowd{found}
}

func (c crowd) String() string {
	return fmt.Sprintf("user id %d has %d connections to its port", c.User, c.Connections)
}

// underCrowd takes a look at the connections to an engine that answers late. Where a crowd is the
// reason of that, the engine counts as one that works.
func (u *works) underCrowd(c crowd, slots int, now time.Time) {
	known, before := u.crowded, u.accepted
	u.crowded, u.accepted = c.Connections > 0, c.Accepted
	if !u.crowded {
		return
	}
	accepts := known && slices.ContainsFunc(c.Accepted, func(inode uint64) bool {
		_, old := slices.BinarySearch(before, inode)
		return !old
	})
	if accepts || c.Connections >= max(crowdSure, crowdPerSlot*slots) {
		u.last = now
	}
}

// nameCrowd adds who crowds an engine's port to why its probes fail, and reports whether it did. It
// does so once for each cause: the number of connections changes all the time.
func (w *watch) nameCrowd(c crowd) bool {
	run := &w.r.run
	if c.Connections == 0 || run.verdict != reconcile.Unhealthy || run.probeErr == nil || run.fault != nil ||
		strings.Contains(run.probeErr.Message, "connections to its port") {
		return false
	}
	port := w.endpoint[strings.LastIndex(w.endpoint, ":")+1:]
	spared := "for as long as that lasts"
	if limit := w.health.EscalateLimit; limit > 0 {
		spared = "before " + rounded(limit) + " ([health] escalate_limit)"
	}
	w.explain("; "+c.String(),
		"See whether that user's programs keep the engine from answering: ss -Htnp 'dport = :"+port+"'. While they "+
			"do, it is not restarted "+spared+". "+run.probeErr.Hint)
	return true
}

// explain adds to why the probes fail what a look at the engine has found. It is logged once until
// the engine is healthy: causes come and go meanwhile, and each is shown with it.
func (w *watch) explain(what, hint string) {
	run := &w.r.run
	run.probeErr = registry.Fail(run.probeErr.Code, run.probeErr.Message+what, hint)
	if w.explained {
		w.r.view.logged = run.probeErr.Error()
	}
	w.explained = true
}
