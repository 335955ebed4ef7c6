package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// packageInside is where the package lies in the machine.
const packageInside = "/root/pool-managerd.deb"

// The files that an operator writes.
const (
	configFile = `# This host has no GPU: say that inference on the CPU is meant. The default refuses it.
require_gpu = false
`
	poolFile = `engine = "llamacpp"
model = "file:` + host.TinyModel + `"
devices = []
ctx = 256
slots = 2
`
)

// stage is the machine and what the steps share.
type stage struct {
	h      *host.Host
	prompt string // before the $; empty: there is one machine
}

// run prints a command and runs it, and prints its output.
func (s stage) run(ctx context.Context, script string) error {
	fmt.Println(s.prompt + "$ " + script)
	r := s.h.M.RunCommand(ctx, machine.Command{
		Args: []string{"bash", "-euo", "pipefail", "-c", script}, Stdout: os.Stdout, Stderr: os.Stdout,
	})
	return r.Check()
}

// write shows a file and writes it.
func (s stage) write(ctx context.Context, name, content string) error {
	if err := s.h.WriteFile(ctx, name, content); err != nil {
		return err
	}
	return s.run(ctx, "cat "+name)
}

// steps runs one after the other until one fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// show is the whole story.
func (s stage) show(ctx context.Context) error {
	run := func(script string) func() error { return func() error { return s.run(ctx, script) } }
	return steps(
		func() error { say("PID 1 of the machine is systemd. The package goes in with dpkg."); return nil },
		run("systemctl --version | head -1; llama-server --version 2>&1 | head -1"),
		run("dpkg --install "+packageInside),
		func() error { return s.h.Answering(ctx) },
		func() error { say("One line says that this host has no GPU, one file asks for a pool."); return nil },
		func() error { return s.write(ctx, host.ConfigFile, configFile) },
		func() error { return s.write(ctx, host.PoolFile("tiny"), poolFile) },
		run("poolctl check"),
		run("systemctl reload pool-managerd"),
		func() error { _, err := s.ready(ctx, 0); return err },
		func() error { say("The pool is ready: the engine answered, and not a moment before."); return nil },
		run("poolctl list"),
		run("systemctl status --no-pager --lines=3 'pool-engine@*'"),
		func() error { return s.complete(ctx) },
		func() error { return s.killEngine(ctx) },
		func() error { return s.killManager(ctx) },
		func() error { return s.gpus(ctx) },
	)
}

// patience bounds each wait of the story.
const patience = time.Minute

// until waits until a condition holds for a pool.
func (s stage) until(ctx context.Context, id string, holds func(host.Pool) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return host.Eventually(ctx, func(ctx context.Context) error {
		p, err := s.h.Pool(ctx, id)
		if err == nil && !holds(p) {
			err = fmt.Errorf("not yet: %s", p)
		}
		return err
	})
}

// ready waits until the pool is ready after so many restarts.
func (s stage) ready(ctx context.Context, restarts int) (p host.Pool, err error) {
	err = s.until(ctx, "tiny", func(now host.Pool) bool {
		p = now
		return p.Ready && p.RestartCount == restarts && len(p.Replicas) > 0
	})
	return p, err
}

// complete asks the engine itself for text.
func (s stage) complete(ctx context.Context) error {
	p, err := s.ready(ctx, 0)
	if err != nil {
		return err
	}
	say("A completion from the engine (the model has random weights, so it babbles).")
	return s.run(ctx, "curl -sS "+p.Replicas[0].Endpoint+
		`/v1/completions -d '{"prompt":"Hello","max_tokens":16}'; echo`)
}

func (s stage) killEngine(ctx context.Context) error {
	p, err := s.ready(ctx, 0)
	if err != nil {
		return err
	}
	say("The engine is killed. PID 1 starts it again.")
	return steps(
		func() error { return s.run(ctx, "kill -KILL "+strconv.Itoa(p.Replicas[0].PID)) },
		func() error {
			return s.until(ctx, "tiny", func(p host.Pool) bool { return !p.Ready })
		},
		func() error { return s.run(ctx, "poolctl list") },
		func() error { _, err := s.ready(ctx, 1); return err },
		func() error { return s.run(ctx, "poolctl list") },
	)
}

func (s stage) killManager(ctx context.Context) error {
	say("The manager is killed. The engine does not notice: the same process, the same run.")
	show := "systemctl show -p Id -p MainPID -p InvocationID -p NRestarts pool-managerd '" + host.EngineUnit("tiny") +
		"'"
	before, err := s.h.Unit(ctx, host.EngineUnit("tiny"))
	if err != nil {
		return err
	}
	if err := s.run(ctx, show); err != nil {
		return err
	}
	if err := s.run(ctx, "systemctl kill --signal=KILL pool-managerd.service"); err != nil {
		return err
	}
	if _, err := s.ready(ctx, 1); err != nil {
		return err
	}
	if err := s.run(ctx, show); err != nil {
		return err
	}
	after, err := s.h.Unit(ctx, host.EngineUnit("tiny"))
	if err == nil && after.Process() != before.Process() {
		err = fmt.Errorf("the engine was restarted: it was %+v and is %+v", before, after)
	}
	if err != nil {
		return err
	}
	return s.run(ctx, "poolctl list")
}

// stay keeps the API reachable from this machine until ctx ends.
func (s stage) stay(ctx context.Context) error {
	forward, err := s.h.M.Forward(host.TCPAddress, "unix", host.Socket)
	if err != nil { // the port is taken here: any other will do
		forward, err = s.h.M.Forward("127.0.0.1:0", "unix", host.Socket)
	}
	if err != nil {
		return err
	}
	defer forward.Close()
	say("The API is forwarded to this machine, from the manager's unix socket. In another terminal:")
	fmt.Printf("curl -s http://%s/v1/pools\n", forward.Addr)
	say("Ctrl-C ends the machine.")
	select {
	case <-ctx.Done():
		fmt.Println()
		return nil
	case <-s.h.M.Gone():
		return fmt.Errorf("the machine has ended by itself:\n%s", strings.TrimSpace(s.h.M.Console()))
	}
}
