package truth

import (
	"slices"
	"strings"
)

// ports holds that each endpoint belongs to one engine, and that this engine answers there.
type ports struct {
	former map[string]int // the process that was wrong at the look before, by unit
}

func (s *ports) see(r Record) (found []Violation) {
	if r.Look == nil {
		return nil
	}
	users := make(map[string]string)
	process := make(map[string]int)
	for _, p := range r.Look.Pools {
		for _, replica := range p.Replicas {
			process[replica.Unit] = replica.PID
			if replica.Endpoint == "" || replica.PID == 0 {
				continue
			}
			if other, ok := users[replica.Endpoint]; ok {
				found = append(found, wrong(RulePort, p.ID, "%s and %s both have %s", other, replica.Unit,
					replica.Endpoint))
			}
			users[replica.Endpoint] = replica.Unit
		}
	}
	// An engine may have been replaced between the API's answer and its own: it is wrong when it
	// is at two looks.
	now := make(map[string]int)
	for _, a := range r.Look.Answers {
		if want := process[a.Unit]; a.PID != 0 && want != 0 && a.PID != want {
			now[a.Unit] = a.PID
			if s.former[a.Unit] == a.PID {
				found = append(found, wrong(RulePort, PoolOf(a.Unit), "process %d answers at %s, which is that of %s "+
					"(%d)", a.PID, a.Endpoint, a.Unit, want))
			}
		}
	}
	s.former = now
	return found
}

// memory holds that at most as many engines of a GPU run as fit, and that none was started for
// which there was no memory.
type memory struct {
	groups []Group
	said   []string // the pools that ran out of memory at the look before

	unchecked []string // of this round
}

func (s *memory) see(r Record) (found []Violation) {
	if r.Begin != nil {
		s.unchecked = r.Begin.Unchecked
	}
	if r.Look == nil {
		return nil
	}
	for _, g := range s.groups {
		var running []string
		for _, p := range r.Look.Pools {
			if p.Ready && slices.Contains(g.Pools, p.ID) {
				running = append(running, p.ID)
			}
		}
		if len(running) > g.Fit {
			found = append(found, wrong(RuleMemory, "", "%v are ready on one GPU, where %d fit", running, g.Fit))
		}
	}
	var now []string
	for _, p := range r.Look.Pools {
		if !strings.HasPrefix(p.LastError, "CUDA_OOM") {
			continue
		}
		now = append(now, p.ID)
		if !slices.Contains(s.said, p.ID) && !slices.Contains(s.unchecked, p.ID) {
			found = append(found, wrong(RuleMemory, p.ID, "it was started without memory: %s", p.LastError))
		}
	}
	if r.Look.API == "" {
		s.said = now
	}
	return found
}

// handOff holds that hand-off files are whole at any time and, in a settled round, are those of
// what is ready.
type handOff struct{}

func (handOff) see(r Record) (found []Violation) {
	if r.Look != nil {
		return whole(r.Look.Files)
	}
	if r.Settled == nil {
		return nil
	}
	look := r.Settled.Look
	found = whole(look.Files)
	there := make(map[string]int)
	for _, f := range look.Files {
		there[f.Pool] = f.PID
	}
	for _, p := range look.Pools {
		if len(p.Replicas) != 1 {
			continue
		}
		pid, ok := there[p.ID]
		delete(there, p.ID)
		switch {
		case p.Ready && !ok:
			found = append(found, wrong(RuleHandOff, p.ID, "it is ready and has no file"))
		case p.Ready && pid != p.Replicas[0].PID:
			found = append(found, wrong(RuleHandOff, p.ID, "its file has process %d, the API %d", pid,
				p.Replicas[0].PID))
		case !p.Ready && ok:
			found = append(found, wrong(RuleHandOff, p.ID, "it is %s and has a file", p.State))
		}
	}
	for id := range there {
		found = append(found, wrong(RuleHandOff, id, "there is a file, and no such pool"))
	}
	return found
}

func whole(files []File) (found []Violation) {
	for _, f := range files {
		if f.Error != "" {
			found = append(found, wrong(RuleHandOff, "", "%s: %s", f.Name, f.Error))
		}
	}
	return found
}
