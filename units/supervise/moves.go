package supervise

import (
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// mostMoves bounds how often in a row a replica is given another port at once. After that a port in
// use is a failed start as any other: a program that takes each port as soon as an engine has it
// must not keep the manager busy.
const mostMoves = 16

// move gives a replica another port if a start failed because another process has the one that it
// was given, and reports whether the start is made again with that one. Such a start costs nothing:
// no failed run is counted and nothing is waited for. A port that the pool's file names is not
// changed.
func (s *Supervisor) move(r *replica, run string, f *registry.Failure) bool {
	if f == nil || f.Code != registry.CodePortInUse || !r.wish.known || r.wish.pool.Port != 0 {
		return false
	}
	if r.unit.moving || run != "" && run == r.unit.left {
		return true // the rest of what is reported of the same start
	}
	if r.unit.moves >= mostMoves {
		return false
	}
	former := r.unit.port
	s.o.Ports.Release(r.id)
	port, err := s.o.Ports.Claim(r.id, 0)
	if err != nil || !r.past.State.Withdraw(run) {
		s.o.Ports.Adopt(r.id, former)
		return false
	}
	r.wait.end()
	s.saveHistory(r)
	r.unit.port, r.unit.moving, r.unit.left = port, true, run
	r.unit.moves++
	r.prep.again()
	s.o.Log.Warn(fmt.Sprintf("%s: another process uses port %d; the engine starts on port %d", r.id, former, port),
		append(withValues(s.about(r), "last_error", f.Error()), "hint", f.Hint)...)
	return true
}

// portVerdict finds the line in a log by which an engine reports that a port is in use. It may be
// its second port, of which the gate knows nothing.
func portVerdict(lines []string) (v classify.Verdict, found bool) {
	i := slices.IndexFunc(lines, engine.PortTaken)
	if i < 0 {
		return v, false
	}
	return classify.Verdict{Code: string(registry.CodePortInUse), Text: lines[i],
		Hint: "See who holds the ports with ss -ltnp. If it is a unix socket that a former run left, have it deleted " +
			"before it listens."}, true
}
