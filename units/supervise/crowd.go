package supervise

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// crowdFrom is how many connections of one user to an engine's port are named as what may keep it
// from answering. A server with a thread for each connection, as llama-server is, has fewer.
const crowdFrom = 64

// crowd returns who has a crowd of connections to an endpoint, as a clause; "" without one.
func (s *Supervisor) crowd(endpoint string) string {
	at, err := netip.ParseAddrPort(hostOf(endpoint))
	if err != nil || s.o.Crowd == nil {
		return ""
	}
	uid, n, err := s.o.Crowd(int(at.Port()))
	if err != nil || n < crowdFrom {
		return ""
	}
	return fmt.Sprintf("user id %d has %d connections to its port", uid, n)
}

// nameCrowd adds who crowds an engine's port to why its probes fail, and reports whether it did. It
// does so once for each cause: the number of connections changes all the time.
func (w *watch) nameCrowd(crowd string) bool {
	run := &w.r.run
	if crowd == "" || run.verdict != reconcile.Unhealthy || run.probeErr == nil || run.fault != nil ||
		strings.Contains(run.probeErr.Message, "connections to its port") {
		return false
	}
	port := w.endpoint[strings.LastIndex(w.endpoint, ":")+1:]
	run.probeErr = registry.Fail(run.probeErr.Code, run.probeErr.Message+"; "+crowd,
		"See whether that user's programs keep the engine from answering: ss -Htnp 'dport = :"+port+"'. "+
			run.probeErr.Hint)
	return true
}
