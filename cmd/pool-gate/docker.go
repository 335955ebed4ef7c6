package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/gate"
	"github.com/pool-managerd/pool-managerd/units/gate/docker"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// byDocker are the steps of an engine that docker runs.
func byDocker(ctx context.Context, args []string, stderr io.Writer, logger *log.Logger) int {
	step := ""
	if len(args) > 0 {
		step, args = args[0], args[1:]
	}
	f, c, s := dockerFlags(step, stderr)
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	rest := f.Args()
	named := c.Docker != "" && c.Name != ""
	switch {
	case step == "run" && named && s.Unit != "" && s.Root != "" && s.Gate != "" && s.take(rest):
		logger.Println(c.Run(ctx, s.Start))
		return docker.Failed
	case step == "attach" && named && len(rest) == 0:
		return attach(ctx, *c, logger)
	case step == "remove" && named && len(rest) == 0:
		c.Remove(ctx)
		return exit.Ready
	case step == "enter" && s.Unit != "" && len(rest) > 0 && strings.HasPrefix(rest[0], "/"):
		status, err := docker.Enter(ctx, s.Unit, s.Sealed, rest)
		logger.Println(err)
		return status
	}
	f.Usage()
	return exit.Usage
}

// dockerStart is a start by its options and arguments.
type dockerStart struct {
	docker.Start
}

// take takes the options of docker run, "--" and the engine, and reports whether both are there.
func (s *dockerStart) take(rest []string) bool {
	between := slices.Index(rest, "--")
	if between < 0 || between+1 == len(rest) {
		return false
	}
	s.Options, s.Engine = rest[:between], rest[between+1:]
	return true
}

// dockerFlags are the options that a step takes.
func dockerFlags(step string, stderr io.Writer) (*flag.FlagSet, *docker.Container, *dockerStart) {
	f, c, s := flags(stderr), new(docker.Container), new(dockerStart)
	if step != "enter" {
		f.StringVar(&c.Docker, "client", "", "path of docker's client")
		f.StringVar(&c.Name, "name", "", "name of the container")
	}
	if step == "run" || step == "enter" {
		f.StringVar(&s.Unit, "unit", "", "unit of the engine")
		f.BoolVar(&s.Sealed, "sealed", false, "refuse memory that is writable and executable")
	}
	if step == "run" {
		f.StringVar(&s.Root, "root", "", "the image's file system")
		f.StringVar(&s.Gate, "gate", "", "path of pool-gate")
		f.Func("group", "group of the host", func(name string) error {
			s.Groups = append(s.Groups, name)
			return nil
		})
	}
	return f, c, s
}

// attach moves the engine into the unit's control group.
func attach(ctx context.Context, c docker.Container, logger *log.Logger) int {
	var o gate.Options
	err := o.FromEnvironment()
	if err != nil {
		logger.Println(err)
		return exit.Usage
	}
	if err = c.Attach(ctx, o.MainPID); errors.Is(err, docker.ErrEnded) {
		logger.Println(err)
		return exit.EngineGone
	}
	if err != nil {
		logger.Println("the engine into the unit's control group:", err)
		return exit.Failed
	}
	return exit.Ready
}
