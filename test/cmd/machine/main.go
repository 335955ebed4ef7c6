// Command machine builds, boots and enters the test machines by hand. It owns flags and wiring; a
// machine is defined in package test/machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

const usage = `usage:
  machine build [-all] [-release NAME] [-vm] [-packages A,B]   build what a machine boots from, so that tests need not
  machine shell [-release NAME] [-vm] [-file GUEST=HOST]...    boot a machine and open a shell in it; exit ends both
  machine run   [-release NAME] [-vm] [-file GUEST=HOST]... [-i] -- COMMAND [ARGS]
                                                               boot a machine, run a command in it, exit with its code;
                                                               -i passes standard input on
Releases: bookworm (systemd 252), trixie (257, the default), forky (262).
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return usageError()
	}
	opts, err := parse(args)
	if err != nil {
		return 0, err
	}
	switch args[0] {
	case "build":
		return 0, build(ctx, opts)
	case "shell":
		return inMachine(ctx, opts, shell)
	case "run":
		if len(opts.command) == 0 {
			return usageError()
		}
		return inMachine(ctx, opts, command)
	}
	return usageError()
}

func usageError() (int, error) {
	fmt.Fprint(os.Stderr, usage)
	return 2, nil
}

// build fills the caches.
func build(ctx context.Context, opts options) error {
	recipes := []machine.Recipe{{Release: opts.config.Release, Packages: opts.config.Packages}}
	if opts.all {
		recipes = nil
		for _, r := range machine.Releases() {
			recipes = append(recipes, machine.Recipe{Release: r, Packages: opts.config.Packages})
		}
	}
	for _, r := range recipes {
		path, err := machine.Build(ctx, r, progress)
		if err != nil {
			return err
		}
		fmt.Println(path)
		if opts.all || opts.config.Backend == machine.VM {
			if err := machine.BuildVM(ctx, r, progress); err != nil {
				return err
			}
		}
	}
	return nil
}

// progress prints what takes time.
func progress(line string) { fmt.Fprintln(os.Stderr, line) }

// inMachine boots a machine, lets work run in it and ends it.
func inMachine(ctx context.Context, opts options,
	work func(context.Context, *machine.Machine, options) (int, error)) (int, error) {
	opts.config.Log = progress
	m, err := machine.Boot(ctx, opts.config)
	if err != nil {
		return 0, err
	}
	code, err := work(ctx, m, opts)
	return code, errors.Join(err, m.Close())
}

// command runs the command line's command with the streams of this process.
func command(ctx context.Context, m *machine.Machine, opts options) (int, error) {
	r := m.RunCommand(ctx, machine.Command{
		Args: opts.command, Stdin: opts.stdin(), Stdout: os.Stdout, Stderr: os.Stderr,
	})
	return r.ExitCode, r.Err
}

// shell opens an interactive shell. The terminal in the machine is made by script(1).
func shell(ctx context.Context, m *machine.Machine, _ options) (int, error) {
	fmt.Fprintf(os.Stderr, "%s %s; exit or Ctrl-D ends the shell and the machine\n", m.Release(), m.Backend())
	rows, columns, restore := rawTerminal(os.Stdin)
	defer restore()
	login := fmt.Sprintf("stty rows %d columns %d; exec bash --login", rows, columns)
	r := m.RunCommand(ctx, machine.Command{
		Args: []string{"script", "--quiet", "--flush", "--return", "--command", login, "/dev/null"},
		Env:  []string{"TERM=" + os.Getenv("TERM"), "SHELL=/bin/bash"},
		Dir:  "/root", Stdin: io.Reader(os.Stdin), Stdout: os.Stdout, Stderr: os.Stderr,
	})
	return r.ExitCode, r.Err
}
