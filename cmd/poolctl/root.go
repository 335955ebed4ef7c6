package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// The API's unix sockets: of every user, and of root and the group pool-managerd alone.
const (
	defaultSocket      = "/run/pool-managerd/api.sock"
	defaultAdminSocket = "/run/pool-managerd/admin.sock"
)

// Forms of output.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
	formatPath  = "jsonpath=" // and a template
)

// forms are all, in the order in which messages list them.
var forms = []string{formatTable, formatWide, formatJSON, formatYAML, formatName, formatPath}

// listsNames marks the commands that have -o name.
const listsNames = "lists-names"

// app is what commands share: the output, the clock and the global options.
type app struct {
	in         io.Reader
	out, err   io.Writer
	now        func() time.Time
	every      time.Duration          // between refreshes with --watch
	journalctl string                 // the program
	systemctl  string                 // likewise
	root       string                 // of the file system; empty: /
	available  func() (uint64, error) // main memory of this host, in bytes
	clear      bool                   // --watch clears the screen: out is a terminal
	bar        bool                   // progress is written over: err is a terminal
	colour     bool                   // states have colours: out is a terminal that shows them
	o          options
}

// options are the global flags.
type options struct {
	host      string // instead of socket or url
	socket    string
	admin     string // the socket that is tried first; empty: none
	url       string
	tokenFile string
	plain     bool // the token may be sent over http:// to another host
	timeout   time.Duration
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
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.StringVar(&a.o.socket, "socket", defaultSocket, "the API's unix `file`; by default admin.sock beside it is "+
		"tried first")
	f.StringVar(&a.o.host, "host", "",
		"ask the manager at `ADDRESS`: unix:/PATH, http://HOST:PORT or https://HOST:PORT")
	f.StringVar(&a.o.url, "url", "", "ask over TCP instead, `http://HOST:PORT`")
	f.StringVar(&a.o.tokenFile, "token-file", "", "`file` that holds the bearer token for --host and --url")
	f.BoolVar(&a.o.plain, "token-over-http", false, "do not warn that a token is sent unencrypted to another host")
	f.DurationVar(&a.o.timeout, "timeout", 0, "how long to wait for an answer of the manager, `5s` for example "+
		"(default 3s, and 15s where something is changed)")
	f.StringVarP(&a.o.output, "output", "o", formatTable,
		"`form` of the output: table, wide, json, yaml, jsonpath=TEMPLATE or, of lists, name")
	f.BoolVar(&a.o.json, "json", false, "short for -o json")
	f.Bool("no-pager", false, "nothing is paged; taken for those who type it with systemctl")
	_ = root.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("host", cobra.FixedCompletions([]string{"unix:/", "http://", "https://"},
		cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(newList(a), newStatus(a), newDevices(a), newLeases(a), newRender(a), newLogs(a), newEvents(a),
		newDrain(a), newResume(a), newRestart(a), newReset(a), newUnload(a), newReload(a), newCheck(a), newClean(a),
		newModels(a), newFleet(a), newFit(a), newBench(a), newImport(a), newExplain(a),
		newTop(a), newVersion(a))
	a.versionFlag(root)
	return root
}

func (a *app) checkOptions(cmd *cobra.Command) error {
	if err := a.locate(cmd); err != nil {
		return err
	}
	if cmd.Flags().Changed("timeout") && a.o.timeout <= 0 {
		return usage("--timeout is %s; want a time above zero, as 5s", a.o.timeout)
	}
	if host := a.o.plainHost(); host != "" {
		fmt.Fprintf(a.err, "poolctl: warning: the token is sent unencrypted to %s\n"+
			"  Use https:// or ssh -L; --token-over-http accepts it, for a network that encrypts.\n", clean(host))
	}
	if a.o.json {
		if cmd.Flags().Changed("output") && a.o.output != formatJSON {
			return usage("--json and --output %s ask for two forms; give one", a.o.output)
		}
		a.o.output = formatJSON
	}
	template, isPath := strings.CutPrefix(a.o.output, formatPath)
	switch {
	case isPath:
		t, err := parseTemplate(template)
		if err != nil {
			return &exitError{code: exitUsage, text: "--output jsonpath: " + err.Error(), err: err,
				hint: "For example: poolctl list -o jsonpath='{.pools[*].id}'; poolctl list -o json shows the names."}
		}
		a.o.output, a.out = formatJSON, &pathWriter{to: a.out, template: t}
	case !slices.Contains(forms, a.o.output):
		return usage("--output is %q; want table, wide, json, yaml, jsonpath=TEMPLATE or name", a.o.output)
	case a.o.output == formatName && cmd.Annotations[listsNames] == "":
		return usage("--output name is for poolctl list, leases and fleet; %s has none", cmd.CommandPath())
	case a.o.output == formatYAML:
		a.o.output, a.out = formatJSON, &yamlWriter{to: a.out}
	}
	return nil
}

// locate finds out where the manager is, below the root that tests have.
func (a *app) locate(cmd *cobra.Command) error {
	if err := a.o.address(cmd.Flags().Changed); err != nil {
		return err
	}
	if a.root != "" && a.o.admin != "" {
		a.o.socket, a.o.admin = a.root+defaultSocket, a.root+defaultAdminSocket
	}
	return nil
}

// address turns --host into a socket or a URL; changed reports which options were given.
func (o *options) address(changed func(name string) bool) error {
	given := slices.DeleteFunc([]string{"host", "socket", "url"}, func(name string) bool { return !changed(name) })
	if len(given) > 1 {
		return usage("--%s exclude each other; give one", strings.Join(given, " and --"))
	}
	if o.admin = ""; len(given) == 0 {
		o.admin = defaultAdminSocket
	}
	if !changed("host") {
		return nil
	}
	socket, isUnix := strings.CutPrefix(o.host, "unix:")
	switch {
	case isUnix && strings.HasPrefix(socket, "/"):
		o.socket = "/" + strings.TrimLeft(socket, "/") // unix:///PATH is a form of it
	case strings.HasPrefix(o.host, "http://"), strings.HasPrefix(o.host, "https://"):
		o.url = o.host
	default:
		return usage("--host is %q; want unix:/PATH, http://HOST:PORT or https://HOST:PORT", o.host)
	}
	return nil
}

// plainHost is the host to which a token would be sent unencrypted over a network; empty: none.
func (o options) plainHost() string {
	u, err := url.Parse(o.url)
	if err != nil || o.tokenFile == "" || o.plain || u.Scheme != "http" {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() || strings.EqualFold(u.Hostname(), "localhost") {
		return ""
	}
	return u.Hostname()
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

// isTerminal reports whether a file is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
