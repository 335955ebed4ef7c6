//go:build machine

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// In these machines a shell script plays pool-gpu, behind a socket of PID 1 as the real one has it:
// it keeps each question and gives the answer that a file holds.
const (
	helperSocket  = "[Socket]\nListenStream=" + wire.Socket + "\nSocketMode=0600\nAccept=yes\n"
	helperService = "[Service]\nStandardInput=socket\nStandardOutput=socket\n" +
		`ExecStart=/bin/sh -c 'read -r line; echo "$line" >>/run/asked; test -e /run/answer || exec sleep 1000; exec cat /run/answer'` + "\n"
)

// answer has the helper answer like this; nil has it answer nothing.
func (m gated) answer(t *testing.T, reply *wire.Reply) {
	t.Helper()
	if reply == nil {
		m.MustRun(t, "rm", "-f", "/run/answer")
		return
	}
	reply.Version = wire.Version
	line, err := json.Marshal(reply)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WriteFile(t.Context(), "/run/answer", append(line, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// asked are the operations that the helper was asked for since the last call.
func (m gated) asked(t *testing.T) []string {
	t.Helper()
	var ops []string
	for _, line := range strings.Fields(m.MustShell(t, "cat /run/asked 2>/dev/null; rm -f /run/asked")) {
		var req wire.Request
		if err := json.Unmarshal([]byte(line), &req); err != nil {
			t.Fatalf("the helper was asked %q: %v", line, err)
		}
		ops = append(ops, req.Op)
	}
	return ops
}

// exited is the exit status of a unit's command that ran last, "" where none ended.
func (m gated) exited(t *testing.T, u gateUnit, property string) string {
	t.Helper()
	show := m.MustRun(t, "systemctl", "show", "--value", "--property="+property, u.unit())
	_, after, _ := strings.Cut(show, "; status=")
	number, _, _ := strings.Cut(strings.TrimRight(after, " }"), "/")
	return strings.TrimSpace(number)
}

// withMemory is an engine with the step before it, and the release behind its gate.
func withMemory(name string, port int, old bool, wait string, more ...string) gateUnit {
	plus := "+"
	if old {
		plus = ""
	}
	return gateUnit{name: name, port: port, old: old,
		start: fmt.Sprintf("%s --port %d --load 100ms", host.StubEngine, port),
		lines: append([]string{
			"ExecStartPre=" + plus + gateProgram + " memory --need GPU-a=6442450944 --host 1048576 --wait " + wait,
			"ExecStartPost=" + plus + gateProgram + " release",
		}, more...)}
}

// TestGateAsksForMemory: a start that finds too little memory fails before the engine is executed,
// no matter what asked for it, and a helper that does not answer keeps nothing down.
func TestGateAsksForMemory(t *testing.T) {
	granted := &wire.Reply{Granted: true}
	short := &wire.Reply{Short: []wire.Short{{Device: "GPU-a", Need: 6 << 30, Free: 1 << 30, Total: 16 << 30,
		Holders: []wire.Holder{{Unit: "pool-engine@big.r0.service", Used: 15 << 30}}}}}
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := gateMachine(t, release)
			for name, text := range map[string]string{"pool-gpu.socket": helperSocket,
				"pool-gpu@.service": helperService} {
				if err := m.WriteFile(t.Context(), "/run/systemd/system/"+name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			once, old := withMemory("once", 21001, false, "1s"), withMemory("old", 21002, true, "1s")
			again := withMemory("again", 21003, false, "0s", "Restart=on-failure", "RestartSec=300ms")
			m.load(t, once, old, again)
			m.MustRun(t, "systemctl", "start", "pool-gpu.socket")

			for _, u := range []gateUnit{once, old} {
				t.Run("promised_and_given_back/"+u.name, func(t *testing.T) {
					m.answer(t, granted)
					m.MustRun(t, "systemctl", "start", u.unit())
					if got := m.asked(t); !slices.Equal(got, []string{wire.OpReserve, wire.OpRelease}) {
						t.Errorf("the helper was asked for %v", got)
					}
					m.MustRun(t, "systemctl", "stop", u.unit())
				})
				t.Run("short/"+u.name, func(t *testing.T) {
					m.answer(t, short)
					ctx, cancel := m.patience(t)
					defer cancel()
					if r := m.Run(ctx, "systemctl", "start", u.unit()); r.Err != nil || r.ExitCode == 0 {
						t.Errorf("the start: %v, exit code %d", r.Err, r.ExitCode)
					}
					if pre, post := m.exited(t, u, "ExecStartPre"), m.exited(t, u, "ExecMainStatus"); pre != "6" ||
						post != "" {
						t.Errorf("the step before the engine ended with %q", pre)
					}
					if got := m.asked(t); len(got) < 2 || slices.Contains(got, wire.OpRelease) {
						t.Errorf("the helper was asked for %v", got)
					}
					log := m.MustShell(t, "journalctl --sync; journalctl --no-pager -o cat -u "+u.unit())
					if !strings.Contains(log,
						"too little GPU memory: GPU-a: needs 6.0 GiB, and 1.0 GiB of 16.0 GiB is free (held by pool "+
							"big/r0 with 15.0 GiB)") {
						t.Errorf("its log:\n%s", log)
					}
				})
			}
			t.Run("restarts_of_PID_1_are_asked_too", func(t *testing.T) {
				m.asksAtEachRestart(t, again, granted, short)
			})
			t.Run("a_silent_helper_keeps_nothing_down", func(t *testing.T) {
				m.answer(t, nil)
				began := time.Now()
				m.MustRun(t, "systemctl", "start", once.unit())
				t.Logf("with a helper that says nothing a start takes %s", time.Since(began).Round(time.Millisecond))
				m.MustRun(t, "systemctl", "stop", once.unit())
			})
			t.Run("nor_does_none", func(t *testing.T) {
				m.MustRun(t, "systemctl", "stop", "pool-gpu.socket")
				m.MustRun(t, "systemctl", "start", once.unit())
				m.MustRun(t, "systemctl", "stop", once.unit())
			})
		})
	}
}

// asksAtEachRestart: only PID 1 starts the unit after its first start.
func (m gated) asksAtEachRestart(t *testing.T, u gateUnit, granted, short *wire.Reply) {
	await := func(what string, ok func(show string) bool) {
		t.Helper()
		show := ""
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			show = m.MustRun(t, "systemctl", "show", "--property=ActiveState,SubState,NRestarts,MainPID", u.unit())
			if ok(show) {
				return
			}
		}
		t.Fatalf("never %s:\n%s", what, show)
	}
	m.answer(t, granted)
	m.MustRun(t, "systemctl", "start", u.unit())
	m.answer(t, short)
	m.MustRun(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", u.unit())
	await("refused", func(show string) bool {
		return strings.Contains(show, "SubState=auto-restart") && m.exited(t, u, "ExecStartPre") == "6"
	})
	m.answer(t, granted)
	await("running again", func(show string) bool {
		return strings.Contains(show, "ActiveState=active") && !strings.Contains(show, "NRestarts=1\n")
	})
	m.MustRun(t, "systemctl", "stop", u.unit())
	if got := m.asked(t); len(got) < 5 {
		t.Errorf("over at least two restarts the helper was asked for %v", got)
	}
}

// gpuEngine is an engine that was given a GPU, and that says these words before it listens.
func gpuEngine(name string, port int, words string, lines ...string) gateUnit {
	return gateUnit{name: name, port: port, lines: lines, gate: "--engine llamacpp --gpu",
		start: fmt.Sprintf(`/bin/sh -c '%s; exec %s --port %d'`, words, host.StubEngine, port)}
}

// TestGateRefusesTheCPU: an engine that was given a GPU, and says that it runs without, is not
// ready.
func TestGateRefusesTheCPU(t *testing.T) {
	const uses, without = `echo load_tensors: offloaded 33/33 layers to GPU`,
		`echo load_tensors: offloaded 0/33 layers to GPU`
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := gateMachine(t, release)
			old := gpuEngine("old", 21006, without)
			old.old = true
			cases := []struct {
				unit gateUnit
				want int
				says string
			}{
				{gpuEngine("gpu", 21001, uses), 0, "the engine answers after"},
				{gpuEngine("cpu", 21002, without), 8, "the engine put no layer of the model on its GPU; its log says"},
				{gpuEngine("coloured", 21003, `printf "\\033[31mno usable GPU found\\033[0m\\n"`), 8, "the engine found no usable GPU"},
				// What was said in the very moment before it answers, behind much else.
				{gpuEngine("talkative", 21004, "seq 5000; "+without), 8, "the engine put no layer of the model on its GPU"},
				{gpuEngine("long", 21005, `head -c 200000 /dev/zero | tr "\\0" x; echo; `+uses), 0, "the engine answers after"},
				{old, 8, "the engine put no layer of the model on its GPU"},
			}
			for _, c := range cases {
				m.load(t, c.unit)
				t.Run(c.unit.name, func(t *testing.T) {
					status, log := m.started(t, c.unit)
					if status != c.want || !strings.Contains(log, c.says) || strings.Contains(log, "unknown whether") {
						t.Errorf("the gate ended with %d, want %d and %q:\n%.3000s", status, c.want, c.says, log)
					}
				})
			}
			t.Run("what_it_costs", func(t *testing.T) { m.costsOfTheLook(t) })
			t.Run("goes_on_without_journalctl", func(t *testing.T) {
				m.MustRun(t, "mv", "/usr/bin/journalctl", "/usr/bin/journalctl.away")
				defer m.MustRun(t, "mv", "/usr/bin/journalctl.away", "/usr/bin/journalctl")
				u := gpuEngine("blind", 21009, without)
				m.load(t, u)
				m.MustRun(t, "systemctl", "start", u.unit())
				log := m.MustRun(t, "/usr/bin/journalctl.away", "--no-pager", "--output=cat", "--unit="+u.unit())
				if !strings.Contains(log, "unknown whether it uses its GPU") {
					t.Errorf("its log:\n%s", log)
				}
			})
		})
	}
}

// TestGateFindsTheEnginesStream: where nothing forbids it, as a container does, the gate's line
// stands in the engine's own stream to the journal, behind all that the engine has written.
func TestGateFindsTheEnginesStream(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := gateMachineOf(t, machine.Config{Release: release, Backend: machine.VM})
			u := gpuEngine("talkative", 21001, "seq 600; echo load_tensors: offloaded 33/33 layers to GPU")
			cpu := gpuEngine("cpu", 21002, "seq 600; echo load_tensors: offloaded 0/33 layers to GPU")
			cpu.old = true
			m.load(t, u, cpu)
			if status, log := m.started(t, u); status != 0 || strings.Contains(log, "unknown whether") {
				t.Errorf("the gate ended with %d:\n%.3000s", status, log)
			}
			stream := m.MustShell(t, "journalctl --no-pager -o json --output-fields=_STREAM_ID,MESSAGE -u "+u.unit()+
				" | grep 'the engine answers\\|offloaded' | sed 's/.*\"_STREAM_ID\":\"\\([0-9a-f]*\\).*/\\1/' | sort "+
				"-u | wc -l")
			if stream != "1" {
				t.Errorf("the engine's line and the gate's are in %s streams, want 1", stream)
			}
			if status, log := m.started(t, cpu); status != 8 {
				t.Errorf("the gate ended with %d, want 8:\n%.3000s", status, log)
			}
		})
	}
}

// costsOfTheLook logs how long starts take with and without the look at the log. It asserts nothing
// of the times.
func (m gated) costsOfTheLook(t *testing.T) {
	plain, looks := gpuEngine("plain", 21007, "seq 100"), gpuEngine("looks", 21008, "seq 100")
	plain.gate = ""
	m.load(t, plain, looks)
	for _, u := range []gateUnit{plain, looks} {
		// Microseconds between the main process and the end of the gate, as PID 1 has them.
		var took []int
		for range 20 {
			m.MustRun(t, "systemctl", "start", u.unit())
			show := strings.Fields(m.MustRun(t, "systemctl", "show", "--value",
				"--property=ExecMainStartTimestampMonotonic",
				"--property=ActiveEnterTimestampMonotonic", u.unit()))
			var at []int
			for _, s := range show {
				n, err := strconv.Atoi(s)
				if err != nil {
					t.Fatal(err)
				}
				at = append(at, n)
			}
			took = append(took, slices.Max(at)-slices.Min(at))
			m.MustRun(t, "systemctl", "stop", u.unit())
		}
		slices.Sort(took)
		t.Logf("%s: from exec to active median %d ms, worst %d ms of %d", u.name, took[len(took)/2]/1000,
			took[len(took)-1]/1000, len(took))
	}
}
