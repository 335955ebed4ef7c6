package systemd

import (
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// properties are a unit's properties by name, without their variants. The Unit and the Service
// interface share no name with different meanings, so one map holds both.
type properties map[string]any

// statusProperties are those that status reads, besides listedProperties. Each is queried by
// itself: PID 1 takes ten times as long over all the 450 properties of a service (on systemd 257
// mostly over those of the Unit interface), and they fill 20 kB.
func statusProperties() []string {
	return []string{
		"Result", "InvocationID", "MainPID", "ExecMainCode", "ExecMainStatus", "NRestarts", "ControlGroup",
		"ActiveEnterTimestamp", "InactiveEnterTimestamp", "StateChangeTimestamp",
		"ExecMainStartTimestamp", "ExecMainExitTimestamp", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic",
		"ActiveEnterTimestampMonotonic", "ActiveExitTimestampMonotonic",
		"ExecStartPreEx", "ExecStartPostEx", "RestartUSec", "RestartUSecNext", "LogExtraFields",
	}
}

// listedProperties are also part of a listing, so they need no query.
func listedProperties() []string { return []string{"LoadState", "ActiveState", "SubState", "Job"} }

// runIdentity are the properties that differ from run to run: if two reads are equal, no run began
// and no restart was queued between them.
func runIdentity() []string { return []string{"InvocationID", "NRestarts"} }

// runProperties are read after statusProperties, so that a run, its counter and its state are of
// the same time: PID 1 continues between the answers of a read, and its signals come later.
func runProperties() []string {
	return append([]string{"ActiveState", "SubState", "Job"}, runIdentity()...)
}

// unsignalledProperties are those of statusProperties that may change without PropertiesChanged:
// the first four always do, the others at ResetFailedUnit.
func unsignalledProperties() []string {
	return []string{"ExecStartPreEx", "ExecStartPostEx", "RestartUSecNext", "ControlGroup", "NRestarts", "Result"}
}

// exitLists are the properties of the commands around the main process: of each, only how it ended
// is kept.
func exitLists() []string { return []string{"ExecStartPreEx", "ExecStartPostEx"} }

// status reads a unit's properties. keep names those that go into Properties; nil keeps all.
func (p properties) status(name string, keep []string) Status {
	st := Status{
		Name:            name,
		LoadState:       p.str("LoadState"),
		ActiveState:     p.str("ActiveState"),
		SubState:        p.str("SubState"),
		Result:          p.str("Result"),
		MainPID:         p.integer("MainPID"),
		ExecMainCode:    p.integer("ExecMainCode"),
		ExecMainStatus:  p.integer("ExecMainStatus"),
		NRestarts:       p.integer("NRestarts"),
		InvocationID:    p.hex("InvocationID"),
		ControlGroup:    p.str("ControlGroup"),
		ActiveEnter:     p.time("ActiveEnterTimestamp"),
		InactiveEnter:   p.time("InactiveEnterTimestamp"),
		StateChange:     p.time("StateChangeTimestamp"),
		MainStarted:     p.time("ExecMainStartTimestamp"),
		MainExited:      p.time("ExecMainExitTimestamp"),
		RestartUSec:     p.microseconds("RestartUSec"),
		RestartUSecNext: p.microseconds("RestartUSecNext"),
		LogFields:       p.logFields(),
		JobID:           p.jobID(),
	}
	pre, post := p.exit("ExecStartPreEx"), p.exit("ExecStartPostEx")
	st.PreCode, st.PreStatus = pre.code, pre.status
	st.PostCode, st.PostStatus = post.code, post.status
	p.timeRun(&st)
	if keep == nil {
		st.Properties = maps.Clone(p)
		return st
	}
	for _, name := range keep {
		if v, ok := p[name]; ok {
			if st.Properties == nil {
				st.Properties = make(map[string]any, len(keep))
			}
			st.Properties[name] = v
		}
	}
	return st
}

func (p properties) str(name string) string {
	s, _ := p[name].(string)
	return s
}

func (p properties) integer(name string) int {
	switch v := p[name].(type) {
	case int32:
		return int(v)
	case uint32:
		return int(v)
	case uint64:
		return int(min(v, math.MaxInt))
	}
	return 0
}

// microseconds is 0 also for "infinity", which PID 1 writes as the greatest number.
func (p properties) microseconds(name string) uint64 {
	v, _ := p[name].(uint64)
	if v == math.MaxUint64 {
		return 0
	}
	return v
}

func (p properties) time(name string) time.Time {
	usec := p.microseconds(name)
	if usec == 0 || usec > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMicro(int64(usec))
}

// timeRun computes the times of the last main process's run by CLOCK_MONOTONIC: the host's time may
// jump.
func (p properties) timeRun(st *Status) {
	began, ended := p.microseconds("ExecMainStartTimestampMonotonic"), p.microseconds("ExecMainExitTimestampMonotonic")
	if began == 0 {
		return
	}
	st.WasActive = p.microseconds("ActiveEnterTimestampMonotonic") >= began
	if ended < began || ended-began > math.MaxInt64/1000 {
		return
	}
	st.MainRan = time.Duration(ended-began) * time.Microsecond
	st.EndedFirst = st.WasActive && p.microseconds("ActiveExitTimestampMonotonic") >= ended
}

func (p properties) hex(name string) string {
	b, _ := p[name].([]byte)
	return hex.EncodeToString(b)
}

func (p properties) logFields() map[string]string {
	list, _ := p["LogExtraFields"].([][]byte)
	if len(list) == 0 {
		return nil
	}
	fields := make(map[string]string, len(list))
	for _, entry := range list {
		if key, value, ok := strings.Cut(string(entry), "="); ok {
			fields[key] = value
		}
	}
	return fields
}

// jobID reads Job, a (uo) of the job's number and object, or the number as compact left it.
func (p properties) jobID() uint32 {
	id, _ := compact("Job", p["Job"]).(uint32)
	return id
}

func (p properties) exit(name string) execExit {
	switch v := p[name].(type) {
	case execExit:
		return v
	case [][]any:
		return lastExit(v)
	}
	return execExit{}
}

// execExit is how a command ended: a CLD_ code, and the exit status or the signal.
type execExit struct{ code, status int }

// lastExit reads an Exec…Ex property, a(sasasttttuii): path, argv, flags, start and exit times
// (realtime, monotonic), PID, code, status. It returns the exit of the command that ended last.
func lastExit(commands [][]any) execExit {
	var last execExit
	latest := uint64(0)
	for _, c := range commands {
		if len(c) < 10 {
			continue
		}
		exited, _ := c[6].(uint64)
		code, _ := c[8].(int32)
		how, _ := c[9].(int32)
		if code != 0 && exited >= latest {
			latest, last = exited, execExit{code: int(code), status: int(how)}
		}
	}
	return last
}

// unwrapWanted returns the wanted values without their variants.
func unwrapWanted(values map[string]dbus.Variant, wanted []string) properties {
	out := make(properties, len(wanted))
	for _, name := range wanted {
		if v, ok := values[name]; ok {
			out[name] = v.Value()
		}
	}
	return out
}

// compact copies what would keep the whole message in memory: godbus cuts the strings of one
// message out of shared buffers of 4 KiB, and lists of bytes out of the message itself.
func compact(name string, value any) any {
	switch v := value.(type) {
	case string:
		return strings.Clone(v)
	case []string:
		out := make([]string, len(v))
		for i := range v {
			out[i] = strings.Clone(v[i])
		}
		return out
	case []byte:
		return slices.Clone(v)
	case [][]byte:
		out := make([][]byte, len(v))
		for i := range v {
			out[i] = slices.Clone(v[i])
		}
		return out
	case [][]any:
		if slices.Contains(exitLists(), name) {
			return lastExit(v)
		}
	case []any:
		if name == "Job" && len(v) == 2 {
			return v[0]
		}
	}
	return value
}
