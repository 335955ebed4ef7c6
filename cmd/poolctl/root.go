package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// defaultSocket is the first listener of pool-managerd.socket.
const defaultSocket = "/run/pool-managerd/api.sock"

// Forms of output.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
)

// app is what commands share: the output, the clock and the global options.
type app struct {
	out, err   io.Writer
	now        func() time.Time
	every      time.Duration          // between refreshes with --watch
	journalctl string                 // the program
	systemctl  string                 // likewise
	root       string                 // of the file system; empty: /
	available  func() (uint64, error) // main memory of this host, in bytes
	clear      bool                   // --watch clears the screen: out is a terminal
	o          options
}

// options are the global flags.
type options struct {
	socket    string
	url       string
	tokenFile string
	output    string
	json      bool // short for output
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "poolctl",
		Short: "Show and operate the engine pools of this host",
		Long: `poolctl shows the engine pools of this host: what serves, what does not, and why. It drains, restarts and reloads them.

It asks pool-managerd over its unix socket, or over TCP with --url. Exit status: 0 done; 1 failed, or check found
a problem; 2 wrong use; 3 no such pool; 4 the daemon cannot be reached.`,
		Example: `  poolctl list --watch
  poolctl status llama3
  poolctl devices
  poolctl logs llama3 -f
  poolctl check && systemctl reload pool-managerd`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.checkOptions(cmd) },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVar(&a.o.socket, "socket", defaultSocket, "the API's unix socket")
	f.StringVar(&a.o.url, "url", "", "ask over TCP instead, `http://HOST:PORT`")
	f.StringVar(&a.o.tokenFile, "token-file", "", "`file` that holds the bearer token for --url")
	f.StringVarP(&a.o.output, "output", "o", formatTable, "`form` of the output: table, wide or json")
	f.BoolVar(&a.o.json, "json", false, "short for -o json")
	_ = root.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions([]string{formatTable, formatWide, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(newList(a), newStatus(a), newDevices(a), newRender(a), newLogs(a), newEvents(a),
		newDrain(a), newResume(a), newRestart(a), newReset(a), newReload(a), newCheck(a), newClean(a), newModels(a),
		newFit(a),
		newVersion(a))
	return root
}

func (a *app) checkOptions(cmd *cobra.Command) error {
	if cmd.Flags().Changed("socket") && cmd.Flags().Changed("url") {
		return usage("--socket and --url exclude each other; give one")
	}
	if a.o.json {
		if cmd.Flags().Changed("output") && a.o.output != formatJSON {
			return usage("--json and --output %s ask for two forms; give one", a.o.output)
		}
		a.o.output = formatJSON
	}
	if !slices.Contains([]string{formatTable, formatWide, formatJSON}, a.o.output) {
		return usage("--output is %q; want table, wide or json", a.o.output)
	}
	return nil
}

// do makes a command's RunE: plain errors of f are failures, not wrong use.
func do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd.Context(), args)
		var known *exitError
		if err == nil || errors.As(err, &known) {
			return err
		}
		return &failed{err}
	}
}

// onePool are the positional arguments of a command on one pool.
func onePool(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("want one pool, have %d arguments", len(args))
	}
	return validPool(args[0])
}

func validPool(id string) error {
	if !pool.ValidID(id) {
		return usage("%q is not a pool id; want %s", id, pool.IDRule)
	}
	return nil
}

// completeTimeout bounds how long a shell waits for pool ids.
const completeTimeout = time.Second

// completePool offers the pools of the host that begin with what was typed.
func (a *app) completePool(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	c, err := newClient(a.o)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _, err := read[wire.PoolList](ctx, c, "/v1/pools")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, p := range list.Pools {
		if strings.HasPrefix(p.ID, typed) {
			ids = append(ids, clean(p.ID)+"\t"+clean(p.State))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// isTerminal reports whether a file is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
