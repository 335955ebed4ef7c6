package registry

import "time"

// Ending has the details of a Failure that ended a run of an engine. It is never changed after it
// was published.
type Ending struct {
	Result        string        // as $SERVICE_RESULT of systemd.exec(5): exit-code, signal, core-dump, …
	ExitStatus    int           // where Result is exit-code
	Signal        string        // the name, "SIGSEGV"; empty for a process that exited, and where none ran
	Uptime        time.Duration // of the process; 0: there was none
	RestartCount  int           // how often PID 1 had restarted the unit before
	EngineVersion string        // empty where it is not known
	// Lines are the most informative last lines of the run's log: few, short, and with secrets
	// hidden. NoLines is the reason, as a clause, why there are none; it is empty while they are
	// being read.
	Lines   []string
	NoLines string
	// Suppressed is how many lines of it journald did not take, since the engine wrote too many;
	// those at the end of the run before may be among them.
	Suppressed uint64
}
