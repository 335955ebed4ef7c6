package wire

import "github.com/pool-managerd/pool-managerd/registry"

// Ending is how the run ended that last_error is about.
type Ending struct {
	Result        string   `json:"result"`                // the Result of the unit: exit-code, signal, core-dump, …
	ExitStatus    *int     `json:"exit_status,omitempty"` // where result is exit-code
	Signal        string   `json:"signal,omitempty"`      // by name
	UptimeMS      *int64   `json:"uptime_ms,omitempty"`   // of the process; absent where none ran
	RestartCount  int      `json:"restart_count"`         // restarts by PID 1 before
	EngineVersion string   `json:"engine_version,omitempty"`
	Lines         []string `json:"lines"`                      // of its log, at most five
	NoLines       string   `json:"no_lines,omitempty"`         // why there are none
	Suppressed    uint64   `json:"lines_suppressed,omitempty"` // by journald, of this run or the end of the one before
}

// endingOf returns the details of a failure, nil where it is not of a run that ended.
func endingOf(f *registry.Failure) *Ending {
	if f == nil || f.Ending == nil {
		return nil
	}
	e := f.Ending
	w := &Ending{Result: e.Result, Signal: e.Signal, RestartCount: e.RestartCount, EngineVersion: e.EngineVersion,
		Lines: list(e.Lines), NoLines: e.NoLines, Suppressed: e.Suppressed}
	if e.Result == "exit-code" && e.Signal == "" {
		w.ExitStatus = &e.ExitStatus
	}
	if e.Uptime > 0 {
		ms := e.Uptime.Milliseconds()
		w.UptimeMS = &ms
	}
	return w
}
