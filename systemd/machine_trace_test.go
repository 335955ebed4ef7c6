//go:build machine

package systemd

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var traceFile = flag.String("trace", "", "the file that TestRecordRestarts writes")

// observed is one observation of a unit, as TestRecordRestarts writes it: a line of JSON each.
type observed struct {
	Unit     string `json:"unit"`
	Run      string `json:"run,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
	Active   string `json:"active,omitempty"`
	Sub      string `json:"sub,omitempty"`
	Result   string `json:"result,omitempty"`
	Job      uint32 `json:"job,omitempty"`
	Failed   *int   `json:"failed,omitempty"` // the last line of a unit: how many of its runs failed
	Met      int    `json:"met,omitempty"`    // … and how often a stop, a reset or a new PID 1 met it
}

// TestRecordRestarts writes down what this PID 1 signals of units that fail again and again, and
// how often they really did. test/e2e runs it.
func TestRecordRestarts(t *testing.T) {
	enter(t)
	if *traceFile == "" {
		t.Fatal("-trace is not given")
	}
	f := follow(t, Options{})
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	ends := func(status int, name, script string, more ...Property) string {
		unit := "pmd-test@" + name + ".service"
		f.cleanup(unit)
		// 252 loses ExecStartEx= at a daemon-reload, and reads another command where there is a
		// semicolon in it. Then it restarts the unit no longer, and unloads it at a reset-failed.
		file := filepath.Join(dir, name+".sh")
		text := fmt.Sprintf("%s; echo >>%s; exit %d\n", script, filepath.Join(dir, name), status)
		restart := "on-failure"
		if status == 0 {
			restart = "always"
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
		job, err := f.StartTransient(timeout(t), unit, append([]Property{{"Type", "exec"},
			{"ExecStart", []PlainCommand{{Path: "/bin/sh", Args: []string{"sh", file}}}},
			{"Restart", restart}, {"RestartUSec", uint64(100_000)}, {"StartLimitIntervalUSec", uint64(0)}}, more...))
		if err != nil {
			t.Error(err)
			return unit
		}
		_ = job.Wait(timeout(t)) // the process may end before the job does
		return unit
	}
	fails := func(name, script string, more ...Property) string { return ends(1, name, script, more...) }
	const burst = 5 // the restart after so many failed runs is counted, and refused
	limit := []Property{{"StartLimitIntervalUSec", uint64(60_000_000)}, {"StartLimitBurst", uint32(burst)}}
	var wg sync.WaitGroup
	var units []string
	units = append(units, fails("at_once", "true", limit...))
	units = append(units, ends(0, "status_0", "true", limit...))
	for i := range 20 {
		name := fmt.Sprintf("many%d", i)
		units = append(units, "pmd-test@"+name+".service")
		wg.Go(func() { fails(name, "true", limit...) })
	}
	wg.Wait()
	for _, unit := range units {
		// 252 and 257 leave the last run's result, 262 sets "start-limit-hit".
		f.awaitUnit(unit, "at its start limit", func(s Status) bool {
			return s.NRestarts == burst && s.ActiveState == "failed" && s.JobID == 0
		})
	}
	later := []string{fails("after_a_while", "sleep 0.3"), fails("with_reexec", "sleep 0.2"),
		fails("with_resets", "sleep 0.2"), ends(0, "status_0_after_a_while", "sleep 0.3")}
	for i := range 3 {
		time.Sleep(900 * time.Millisecond)
		run(t, "systemctl", "reset-failed", later[2])
		time.Sleep(350 * time.Millisecond)
		if err := f.ResetFailed(timeout(t), later[2]); err != nil {
			t.Error(err)
		}
		if time.Sleep(500 * time.Millisecond); i < 2 {
			run(t, "systemctl", []string{"daemon-reexec", "daemon-reload"}[i])
		}
	}
	for _, unit := range later {
		run(t, "systemctl", "stop", unit)
		f.awaitUnit(unit, "stopped", func(s Status) bool {
			return s.ActiveState == "inactive" && s.InvocationID != "" || s.ActiveState == "failed"
		})
	}
	time.Sleep(500 * time.Millisecond)
	// Each of these was stopped and met PID 1's reexec and reload, and one also six resets.
	met := map[string]int{later[0]: 3, later[1]: 3, later[2]: 9, later[3]: 3}
	write(t, f.all(), append(units, later...), met, dir)
}

// write writes the trace of some units, each with its final state.
func write(t *testing.T, all []Update, units []string, met map[string]int, dir string) {
	var out []byte
	line := func(o observed) {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, text...), '\n')
	}
	for _, unit := range units {
		name := strings.TrimSuffix(strings.TrimPrefix(unit, "pmd-test@"), ".service")
		for _, st := range statuses(all, unit) {
			line(observed{Unit: name, Run: st.InvocationID, Restarts: st.NRestarts, Active: st.ActiveState,
				Sub: st.SubState, Result: st.Result, Job: st.JobID})
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		failed := strings.Count(string(text), "\n")
		line(observed{Unit: name, Failed: &failed, Met: met[unit]})
	}
	if err := os.WriteFile(*traceFile, out, 0o644); err != nil {
		t.Fatal(err)
	}
}
