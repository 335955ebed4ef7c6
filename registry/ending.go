package registry

import "time"

// Ending is how one run of an engine ended, beside the Failure that it was. It is never changed after it was published.
type Ending struct {
	Result        string        // PID 1's word, as systemd.service(5) has it for $SERVICE_RESULT: exit-code, signal, core-dump, oom-kill, …
	ExitStatus    int           // where Result is exit-code
	Signal        string        // the name, "SIGSEGV"; empty for a process that exited, and where none ran
	Uptime        time.Duration // of the process; 0: there was none
	RestartCount  int           // how often PID 1 had restarted the unit before
	EngineVersion string        // empty where it is not known
	// Lines are the last lines of the run's log that say most: few, short, and without what looks like a secret. NoLines says why there
	// are none, in a clause; it is empty while they are being read.
	Lines   []string
	NoLines string
}
