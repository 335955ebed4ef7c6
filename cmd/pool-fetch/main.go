// Command pool-fetch fetches one model, as a request on standard input asks, and prints events as
// JSON lines: see pool-fetch(8). It owns flags, credentials and signals; the rules are in package
// fetch.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// version is set by the build.
var version = "devel"

func main() {
	syscall.Umask(0o022) // engines, which run as other users, read the cache
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	done := make(chan int, 1)
	p := program{os.Stdin, os.Stdout, os.Stderr}
	go func() { done <- p.run(ctx, os.Args[1:]) }()
	select {
	case code := <-done:
		stop()
		os.Exit(code)
	case <-ctx.Done():
	}
	select {
	case code := <-done:
		os.Exit(code)
	case <-time.After(grace): // a disk that takes its time
		os.Exit(p.fail(context.Canceled))
	}
}

// grace is how long a fetch may take to end after a signal. What it has written is kept anyway.
const grace = 800 * time.Millisecond

// program is what the command reads and prints to.
type program struct {
	in       io.Reader
	out, err io.Writer
}

const usage = `Usage:
  pool-fetch                           fetch what the request on standard input asks for
  pool-fetch request [OPTION...] REF   print a request for REF, with the addresses of its hosts
  pool-fetch resolve HOST...           print the addresses of hosts, as an event
  pool-fetch check [FILE]              check events on standard input, as another program prints them for
                                       the request in FILE
  pool-fetch directory CACHE NAME USER make the directory of an artefact, for a user; as root
  pool-fetch --version

Options of request:
  --cache-dir DIR     the cache (/var/cache/pool-managerd/models)
  --endpoint URL      the hub, or the object store (https://huggingface.co)
  --region NAME       of the object store, where its URL does not have it
  --digest SHA256     sha256:... of the file
  --ca-file FILE      certificates to trust, instead of the host's
  --connections N     at the same time (8)
  --max-bytes N       refuse what is larger
  --rate-limit N      bytes a second
  --host NAME         another host that redirects may lead to; may be repeated
  --peer URL          a manager whose cache is asked first, by digest; may be repeated
`

func (p program) run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		return p.fetch(ctx)
	}
	switch args[0] {
	case "request":
		return p.request(ctx, args[1:])
	case "resolve":
		return p.resolve(ctx, args[1:])
	case "directory":
		return p.directory(args[1:])
	case "check":
		return p.check(args[1:])
	case "--version", "-version":
		fmt.Fprintln(p.out, "pool-fetch", version)
		return wire.ExitDone
	case "--help", "-help", "-h":
		return p.usage(wire.ExitDone)
	}
	return p.usage(wire.ExitUsage)
}

func (p program) usage(code int) int {
	to := p.err
	if code == wire.ExitDone {
		to = p.out
	}
	fmt.Fprint(to, usage)
	return code
}

// print prints an event. One that cannot be printed is lost, as is all else that could be reported.
func (p program) print(e wire.Event) { _, _ = p.out.Write(e.Append(nil)) }

func (p program) fail(err error) int {
	f := fetch.AsFailure(err)
	p.print(f.Event())
	return f.Reason.Exit()
}

// fetch is the command without arguments.
func (p program) fetch(ctx context.Context) int {
	r, err := wire.ReadRequest(p.in)
	if err != nil {
		return p.fail(&fetch.Failure{Reason: wire.BadRequest, Message: err.Error(), Hint: "See pool-fetch(8)."})
	}
	o := fetch.Options{Print: p.print, Log: log.New(p.err, "", 0)}
	if o.Secrets, err = secrets(os.Getenv("CREDENTIALS_DIRECTORY")); err != nil {
		return p.fail(&fetch.Failure{Reason: wire.BadRequest, Message: "a credential cannot be read", Err: err,
			Hint: "Check LoadCredential= of the unit."})
	}
	if err := fetch.Run(ctx, r, o); err != nil {
		return p.fail(err)
	}
	return wire.ExitDone
}

// maxSecret is the size of a credential, in bytes.
const maxSecret = 64 << 10

// Credentials of more than one line: a file of ~/.aws/credentials' form, and one of auth.json's.
const (
	storeKeys    = "s3-credentials"
	registryAuth = "registry-auth"
)

// peersCA is the credential with the certificates of peers, which is read where it is needed.
const peersCA = "peers-ca"

// secrets reads the credentials of the unit (systemd.exec(5), Credentials). None has to be there.
func secrets(dir string) (s fetch.Secrets, err error) {
	if dir == "" {
		return s, nil
	}
	var store string
	for name, to := range map[string]*string{"token": &s.HubToken, "s3-access-key": &s.Store.Access,
		"s3-secret-key": &s.Store.Secret, "s3-session-token": &s.Store.Session, storeKeys: &store,
		registryAuth: &s.Registry, "peers-token": &s.PeersToken} {
		f, err := os.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return s, err
		}
		data, err := io.ReadAll(io.LimitReader(f, maxSecret))
		f.Close()
		if err != nil {
			return s, err
		}
		*to = strings.TrimSpace(string(data))
		if name != registryAuth && name != storeKeys && strings.ContainsAny(*to, "\r\n\x00") {
			return s, fmt.Errorf("%s has more than one line", name)
		}
	}
	if name := filepath.Join(dir, peersCA); isThere(name) {
		s.PeersCA = name
	}
	if store != "" {
		if s.Store, err = fetch.ParseStoreKeys(store); err != nil {
			return s, fmt.Errorf("%s: %w", storeKeys, err)
		}
	}
	return s, nil
}

func isThere(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// resolve prints addresses; it is the only command that asks nameservers.
func (p program) resolve(ctx context.Context, hosts []string) int {
	if len(hosts) == 0 {
		return p.usage(wire.ExitUsage)
	}
	found, err := fetch.Resolve(ctx, hosts)
	if err != nil {
		return p.fail(err)
	}
	p.print(wire.Event{Kind: wire.Hosts, Hosts: found})
	return wire.ExitDone
}

// directory makes a directory. It is the step of the unit that runs as root.
func (p program) directory(args []string) int {
	if len(args) != 3 {
		return p.usage(wire.ExitUsage)
	}
	if err := fetch.MakeDirectory(args[0], args[1], args[2]); err != nil {
		return p.fail(err)
	}
	return wire.ExitDone
}

// request prints a request, to fetch something by hand.
func (p program) request(ctx context.Context, args []string) int {
	r := wire.Request{Version: wire.Version}
	var hosts []string
	f := flag.NewFlagSet("pool-fetch request", flag.ContinueOnError)
	f.SetOutput(p.err)
	f.Usage = func() { fmt.Fprint(p.err, usage) }
	f.StringVar(&r.CacheDir, "cache-dir", "/var/cache/pool-managerd/models", "")
	f.StringVar(&r.Endpoint, "endpoint", "https://huggingface.co", "")
	f.StringVar(&r.Region, "region", "", "")
	f.StringVar(&r.Digest, "digest", "", "")
	f.StringVar(&r.CAFile, "ca-file", "", "")
	f.IntVar(&r.Connections, "connections", 8, "")
	f.Int64Var(&r.MaxBytes, "max-bytes", 0, "")
	f.Int64Var(&r.RateLimit, "rate-limit", 0, "")
	f.Func("host", "", func(name string) error {
		hosts = append(hosts, name)
		return nil
	})
	f.Func("peer", "", func(text string) error {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return errors.New("is no URL")
		}
		r.Peers, hosts = append(r.Peers, text), append(hosts, u.Hostname())
		return nil
	})
	if err := f.Parse(args); err != nil {
		return wire.ExitUsage
	}
	if f.NArg() != 1 {
		return p.usage(wire.ExitUsage)
	}
	ref, err := modelref.Parse(f.Arg(0))
	if err != nil {
		return p.wrong(err)
	}
	if !ref.Remote() {
		return p.wrong(fmt.Errorf("%s is on this host", ref))
	}
	r.Ref, r.Directory = ref.String(), ref.Directory()
	first, err := ref.Hosts(r.Endpoint)
	if err != nil {
		return p.wrong(err)
	}
	if r.Hosts, err = fetch.Resolve(ctx, append(first, hosts...)); err != nil {
		return p.fail(err)
	}
	if err := r.Check(); err != nil {
		return p.wrong(err)
	}
	to := json.NewEncoder(p.out)
	to.SetEscapeHTML(false)
	if err := to.Encode(r); err != nil {
		return p.fail(err)
	}
	return wire.ExitDone
}

func (p program) wrong(err error) int {
	fmt.Fprintln(p.err, "pool-fetch:", err)
	return wire.ExitUsage
}

// check reads what another program prints, in the way the manager does.
func (p program) check(args []string) int {
	var asked *wire.Request
	switch len(args) {
	case 0:
	case 1:
		r, err := requestIn(args[0])
		if err != nil {
			return p.wrong(err)
		}
		asked = &r
	default:
		return p.usage(wire.ExitUsage)
	}
	var d wire.Decoder
	var last wire.Event
	n := 0
	buffer := make([]byte, wire.MaxLine)
	for {
		k, err := p.in.Read(buffer)
		for _, e := range d.Feed(buffer[:k]) {
			n++
			last = e
		}
		if err != nil {
			break
		}
	}
	bad, problem := d.Bad()
	final := last.Kind == wire.Result || last.Kind == wire.Failed
	fmt.Fprintf(p.out, "%d events, %d lines that are none; the last event is %q\n", n, bad, string(last.Kind))
	switch {
	case bad > 0:
		fmt.Fprintln(p.err, "pool-fetch: the last wrong line is", problem)
	case !final:
		fmt.Fprintln(p.err, `pool-fetch: the last event is neither "result" nor "error"`)
	case last.Kind == wire.Result && asked != nil && !last.In(*asked):
		fmt.Fprintln(p.err, "pool-fetch: the result is outside of the snapshots of the directory:", last.Path)
	default:
		return wire.ExitDone
	}
	return wire.ExitFailed
}

func requestIn(name string) (wire.Request, error) {
	f, err := os.Open(name)
	if err != nil {
		return wire.Request{}, err
	}
	defer f.Close()
	return wire.ReadRequest(f)
}
