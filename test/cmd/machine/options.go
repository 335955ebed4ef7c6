package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// options is a parsed command line.
type options struct {
	config  machine.Config
	all     bool
	input   bool
	command []string
}

// parse reads the flags behind the name of the command.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("machine "+args[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	release := flags.String("release", string(machine.Trixie), "")
	vm := flags.Bool("vm", false, "")
	packages := flags.String("packages", "", "")
	flags.BoolVar(&o.all, "all", false, "")
	flags.BoolVar(&o.input, "i", false, "")
	flags.Func("file", "", func(value string) error {
		guest, host, found := strings.Cut(value, "=")
		if !found {
			return fmt.Errorf("want GUEST=HOST, two paths")
		}
		o.config.Files = append(o.config.Files, machine.File{Guest: guest, Host: host})
		return nil
	})
	if err := flags.Parse(args[1:]); err != nil {
		return o, err
	}
	var err error
	if o.config.Release, err = machine.ParseRelease(*release); err != nil {
		return o, err
	}
	if *vm {
		o.config.Backend = machine.VM
	}
	if *packages != "" {
		o.config.Packages = strings.Split(*packages, ",")
	}
	o.command = flags.Args()
	return o, nil
}

// stdin is this process's standard input, when the command asked for it with -i.
func (o options) stdin() io.Reader {
	if o.input {
		return os.Stdin
	}
	return nil
}
