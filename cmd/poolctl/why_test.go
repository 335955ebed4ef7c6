package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

// journalOf is a journal: lines at seconds after a moment, by a manager's run, a caller or PID 1.
type journalOf struct{ lines []string }

func (j *journalOf) add(second int, fields string) *journalOf {
	at := clock.Add(-time.Hour + time.Duration(second)*time.Second)
	j.lines = append(j.lines, fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"%d",%s}`, at.UnixMicro(), fields))
	return j
}

func (j *journalOf) change(second int, run, from, to, reason, lastError string) *journalOf {
	fields := fmt.Sprintf(`"MESSAGE":"gemma/r0: %s","FROM":%q,"TO":%q,"REPLICA_ID":"r0","_PID":"99","_SYSTEMD_INVOCATION_ID":%q`,
		reason, from, to, run)
	if lastError != "" {
		fields += fmt.Sprintf(`,"LAST_ERROR":%q,"HINT":"Look at it."`, lastError)
	}
	return j.add(second, fields)
}

func (j *journalOf) pid1(second int, id, text string) *journalOf {
	return j.add(second, fmt.Sprintf(`"MESSAGE":"pool-engine@gemma.r0.service: %s","MESSAGE_ID":%q,`+
		`"UNIT":"pool-engine@gemma.r0.service","_PID":"1"`, text, id))
}

func (j *journalOf) request(second int, path string) *journalOf {
	return j.add(second, fmt.Sprintf(`"MESSAGE":"uid:1000 requested POST %s: 202","METHOD":"POST","STATUS":"202",`+
		`"IDENTITY":"uid:1000","_PID":"99","_SYSTEMD_INVOCATION_ID":"one"`, path))
}

// problem is a failure that ends nothing.
func (j *journalOf) problem(second int, run, lastError string) *journalOf {
	return j.add(second, fmt.Sprintf(`"MESSAGE":"gemma/r0: %s","REPLICA_ID":"r0","LAST_ERROR":%q,"HINT":"Did you mean slots?",`+
		`"_PID":"99","_SYSTEMD_INVOCATION_ID":%q`, lastError, lastError, run))
}

// starts is a start that becomes ready.
func (j *journalOf) starts(second int, run, from string) *journalOf {
	return j.change(second, run, from, "starting", "the engine loads its model", "").
		change(second+2, run, "starting", "ready", "the engine answers", "")
}

// TestWhyStoppedAndRestarted: the last end and the last restart, from the journal, over restarts of
// the manager.
func TestWhyStoppedAndRestarted(t *testing.T) {
	const segv = "ENGINE_CRASHED: the process was killed by SIGSEGV"
	crash := func(j *journalOf, at int, run string) *journalOf {
		return j.pid1(at, messageProcessExit, "Main process exited, code=killed, status=11/SEGV").
			change(at, run, "ready", "backoff", "the engine ended", segv)
	}
	for name, c := range map[string]struct {
		journal *journalOf
		line    string
	}{
		"why-stopped-crash":   {crash(new(journalOf).starts(0, "one", ""), 60, "one").starts(62, "one", "backoff"), "--why-stopped"},
		"why-restarted-crash": {crash(new(journalOf).starts(0, "one", ""), 60, "one").starts(62, "one", "backoff"), "--why-restarted"},
		"why-stopped-by-a-drain": {new(journalOf).starts(0, "one", "").request(100, "/v1/pools/gemma/drain").
			change(100, "one", "ready", "draining", "an operator drains it", "").
			change(130, "one", "draining", "stopping", "the drain has ended", "").
			change(131, "one", "stopping", "stopped", "it was drained", ""), "--why-stopped"},
		"why-stopped-by-a-drain-beside-a-problem": {new(journalOf).starts(0, "one", "").
			problem(50, "one", "UNIT_FILE_MISSING: PID 1 has the engine's unit without its file").
			request(100, "/v1/pools/gemma/restart").
			change(100, "one", "ready", "draining", "no new work is taken", "UNIT_FILE_MISSING: PID 1 has the engine's unit without its file").
			change(102, "one", "draining", "stopping", "PID 1 is stopping the engine", "").starts(104, "one", "stopped"), "--why-stopped"},
		"why-restarted-by-an-error-that-ends-it": {new(journalOf).starts(0, "one", "").
			problem(100, "one", "GPU_UNAVAILABLE: GPU 0 needs a reset").
			change(100, "one", "ready", "draining", "its GPU may not be used", "GPU_UNAVAILABLE: GPU 0 needs a reset").
			change(102, "one", "draining", "stopping", "PID 1 is stopping the engine", "").starts(104, "one", "stopped"), "--why-restarted"},
		"why-stopped-over-managers": {crash(new(journalOf).starts(0, "one", ""), 60, "one").starts(62, "one", "backoff").
			change(200, "two", "", "ready", "the engine answers", "").
			change(300, "three", "", "ready", "the engine answers", ""), "--why-stopped"},
		"why-restarted-without-a-manager": {new(journalOf).starts(0, "one", "").
			pid1(60, messageProcessExit, "Main process exited, code=killed, status=9/KILL").
			pid1(60, messageFailed, "Failed with result 'signal'.").
			pid1(61, messageRestart, "Scheduled restart job, restart counter is at 1.").
			change(90, "two", "", "starting", "the engine loads its model", "").
			change(91, "two", "starting", "ready", "the engine answers", ""), "--why-restarted"},
		"why-restarted-beside-a-wrong-file": {crash(new(journalOf).starts(0, "one", "").
			problem(3, "one", "CONFIG_INVALID: chat.toml:4:1: no such key: slotz"), 4, "one").starts(5, "one", "backoff"),
			"--why-restarted"},
		"why-stopped-by-a-drain-beside-a-wrong-file": {new(journalOf).starts(0, "one", "").request(100, "/v1/pools/gemma/drain").
			change(100, "one", "ready", "draining", "an operator drains it", "").
			problem(101, "one", "CONFIG_INVALID: chat.toml:4:1: no such key: slotz"), "--why-stopped"},
		"why-stopped-never": {new(journalOf).starts(0, "one", ""), "--why-stopped"},
		"why-stopped-json":  {crash(new(journalOf).starts(0, "one", ""), 60, "one"), "--why-stopped -o json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := filepath.Join(dir, "journalctl")
			text := "#!/bin/sh\ncase \"$*\" in *--field=*) echo 'pool-engine@gemma.r0.service'; exit;; esac\n" +
				"cat <<'END'\n" +
				strings.Join(c.journal.lines, "\n") + "\nnot JSON\nEND\n"
			if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			var out, errOut syncBuffer
			a := &app{out: &out, err: &errOut, now: func() time.Time { return clock }, journalctl: script}
			line := "explain gemma " + c.line
			code := run(t.Context(), a, append(strings.Fields(line), "--socket", "/nowhere"))
			shown := out.String() + errOut.String()
			for s := range 400 { // the same in every time zone
				at := clock.Add(-time.Hour + time.Duration(s)*time.Second)
				shown = strings.ReplaceAll(shown, moment(at.UnixMilli()), at.UTC().Format(time.DateTime))
			}
			golden.File(t, filepath.Join("testdata", name+".golden"),
				fmt.Sprintf("$ poolctl %s\n%s-- exit status %d --\n", line, shown, code), *update)
		})
	}
}

// TestWhyFromEvents: a user who may not read the journal gets the manager's events, marked as such.
func TestWhyFromEvents(t *testing.T) {
	h := newHost(t)
	gemma := func(state registry.State, reason string, f *registry.Failure) {
		h.reg.Put(registry.Aggregate(registry.Pool{ID: "gemma", Engine: "llamacpp", Wanted: true,
			Replicas: []registry.Replica{{ID: "r0", State: state, Ready: state == registry.StateReady, Reason: reason,
				LastError: f}}}))
	}
	gemma(registry.StateReady, "the engine answers", nil)
	gemma(registry.StateUnhealthy, "the probe fails", registry.Fail(registry.CodeHealthFailed, "/health: 500", "Look."))
	gemma(registry.StateReady, "the engine answers", nil)
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: time.Now, journalctl: "/bin/false"}
	code := run(t.Context(), a, []string{"explain", "gemma", "--why-stopped", "--socket", h.socket})
	for _, part := range []string{"gemma r0 stopped serving", "Why:   HEALTH_FAILED: /health: 500", "Hint:  Look.",
		"serves again since", "manager's events since its start", "group systemd-journal"} {
		if code != exitOK || !strings.Contains(strings.ReplaceAll(out.String(), "\n", " "), part) {
			t.Errorf("exit status %d, no %q in:\n%s%s", code, part, out.String(), errOut.String())
		}
	}
	for _, line := range []string{"explain --why-stopped", "explain ENGINE_CRASHED --why-restarted",
		"explain gemma --why-stopped --why-restarted"} {
		if r := h.run(strings.Fields(line)...); r.code != exitUsage || !strings.Contains(r.errOut, "--why-restarted") {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := h.run("explain", "gema", "--why-stopped"); r.code != exitNoPool || !strings.Contains(r.errOut, "gemma?") {
		t.Errorf("%+v", r)
	}
}
