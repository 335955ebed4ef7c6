package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/etcd"
	"github.com/pool-managerd/pool-managerd/registry/fleet/notify"
	"github.com/pool-managerd/pool-managerd/registry/fleet/serve"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// publisher publishes this host in one place.
type publisher interface {
	Run(ctx context.Context, states fleet.Mailbox)
	Leave(ctx context.Context) // takes the host back, after Run
	Close()                    // ends without that
}

// program is one run, with one set of settings.
type program struct {
	follower   *fleet.Follower
	publishers []publisher
	progress   []*fleet.Progress
	shown      *serve.Server
	socket     string // where
	log        *slog.Logger
}

func newProgram(o options, log *slog.Logger) (*program, error) {
	f, err := fleet.ReadSettings(o.settings)
	if err != nil {
		return nil, err
	}
	host, err := fleet.ReadHost(o.root)
	if err != nil {
		return nil, err
	}
	host.Address, host.Version = f.AdvertiseURL, version
	manager, err := client.New(client.Options{Sockets: []string{o.socket}, CorrelationID: "pool-fleet"})
	if err != nil {
		return nil, err
	}
	p := &program{follower: &fleet.Follower{Manager: manager, Log: log}, socket: o.fleet, log: log}
	shown := serve.Options{Log: log}
	if f.Orchestrator.URL != "" {
		r, err := newReporter(f, host, p.progressOf("orchestrator"), log)
		if err != nil {
			return nil, err
		}
		p.publishers = append(p.publishers, r)
	}
	if len(f.Etcd.Endpoints) > 0 {
		e, err := etcdOptions(f.Etcd, host, log)
		if err != nil {
			return nil, err
		}
		e.Progress = p.progressOf("etcd")
		p.follower.Models = true
		p.publishers = append(p.publishers, etcd.New(e))
		shown.Source, shown.Prefix, shown.TTL, shown.Hint = etcd.NewReader(e), e.Prefix, e.TTL, etcd.ReadHint
	}
	shown.Publishing = p.progress
	p.shown = serve.New(shown)
	return p, nil
}

// progressOf adds how publishing in a place goes.
func (p *program) progressOf(to string) *fleet.Progress {
	progress := fleet.NewProgress(to)
	p.progress = append(p.progress, progress)
	return progress
}

func newReporter(f fleet.Settings, host fleet.Host, progress *fleet.Progress,
	log *slog.Logger) (*notify.Reporter, error) {
	token, err := readLine("[orchestrator] token_file", f.Orchestrator.TokenFile)
	if err != nil {
		return nil, err
	}
	trust, err := trustOf("[orchestrator] ca_file", f.Orchestrator.CAFile)
	if err != nil {
		return nil, err
	}
	node, url := f.Orchestrator.NodeID, f.Orchestrator.URL
	if node == "" {
		node = host.Name
	}
	if token != "" && strings.HasPrefix(url, "http://") {
		log.Warn("the orchestrator's token is sent without encryption", "url", url,
			"hint", "Let [orchestrator] url begin with https://, unless this network is encrypted otherwise.")
	}
	return notify.New(notify.Options{URL: url, Token: token, NodeID: node, Host: host,
		Interval: f.Orchestrator.Interval(), Log: log, Progress: progress,
		// without a proxy of the environment, since the unit has none
		HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, TLSClientConfig: trust}}}), nil
}

func etcdOptions(e fleet.Etcd, host fleet.Host, log *slog.Logger) (etcd.Options, error) {
	o := etcd.Options{Endpoints: e.Endpoints, Prefix: e.Prefix, TTL: e.TTL(), User: e.Username, Host: host, Log: log}
	var err error
	if o.Password, err = readLine("[etcd] password_file", e.PasswordFile); err != nil {
		return o, err
	}
	if strings.HasPrefix(e.Endpoints[0], "https://") {
		if o.TLS, err = trustOf("[etcd] ca_file", e.CAFile); err != nil {
			return o, err
		}
		if o.TLS.Certificates, err = readCertificate(e.CertFile, e.KeyFile); err != nil {
			return o, err
		}
	} else if o.Password != "" {
		log.Warn("etcd's password is sent without encryption", "endpoints", e.Endpoints,
			"hint", "Let [etcd] endpoints begin with https://, unless this network is encrypted otherwise.")
	}
	pid1 := systemd.NewNotifier()
	o.Status = func(line string) {
		if err := pid1.Status(line); err != nil {
			log.Debug(fmt.Sprintf("systemctl status does not show %q: %v", line, err))
		}
	}
	return o, nil
}

// run publishes until it is to end for good (ctx), when it takes this host back, or is to read its
// settings again: PID 1 then starts it again, and the host stays published.
func (p *program) run(ctx context.Context, again <-chan os.Signal) {
	work, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	boxes := make([]fleet.Mailbox, len(p.publishers))
	for i, to := range p.publishers {
		boxes[i] = fleet.NewMailbox()
		all.Go(func() { to.Run(work, boxes[i]) })
	}
	all.Go(func() {
		p.follower.Run(work, func(s fleet.State) {
			for _, box := range boxes {
				box.Put(s)
			}
		})
	})
	p.show(work, &all)
	replaced := false
	select {
	case <-ctx.Done():
	case <-again:
		replaced = true
	}
	cancel()
	all.Wait()
	for _, from := range p.publishers {
		if replaced {
			all.Go(from.Close)
		} else {
			all.Go(func() { from.Leave(context.WithoutCancel(ctx)) })
		}
	}
	all.Wait()
}

// show serves the fleet until ctx ends. Where that is impossible, this host is published all the
// same.
func (p *program) show(ctx context.Context, all *sync.WaitGroup) {
	l, err := listen(p.socket)
	if err != nil {
		p.log.Warn("the fleet is not shown on this host: "+err.Error(), "hint",
			"poolctl fleet needs it. Is the unit as the package has it? systemctl cat pool-fleet")
		return
	}
	all.Go(func() { p.shown.Serve(ctx, l) })
}

// listen makes the socket, in the place of one that a process left which was killed. Any user may
// connect, as to the manager's, at which each of these pools can be read, too.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil { // the umask took it away
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
