package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/notify"
)

// program is one run, with one set of settings.
type program struct {
	follower *fleet.Follower
	reporter *notify.Reporter
	log      *slog.Logger
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
	p := &program{follower: &fleet.Follower{Manager: manager, Log: log}, log: log}
	p.reporter, err = newReporter(f, host, log)
	return p, err
}

func newReporter(f fleet.Settings, host fleet.Host, log *slog.Logger) (*notify.Reporter, error) {
	token, err := readToken(f.Orchestrator.TokenFile)
	if err != nil {
		return nil, err
	}
	transport, err := transportOf(f.Orchestrator.CAFile)
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
		Interval: f.Orchestrator.Interval(),
		HTTP:     &http.Client{Transport: transport}, Log: log}), nil
}

// run publishes until it is to end for good (ctx), when it takes this host back, or is to read its
// settings again: PID 1 then starts it again, and the host stays published.
func (p *program) run(ctx context.Context, again <-chan os.Signal) {
	work, cancel := context.WithCancel(ctx)
	states := fleet.NewMailbox()
	var all sync.WaitGroup
	all.Go(func() { p.follower.Run(work, states.Put) })
	all.Go(func() { p.reporter.Run(work, states) })
	replaced := false
	select {
	case <-ctx.Done():
	case <-again:
		replaced = true
	}
	cancel()
	all.Wait()
	if !replaced {
		p.reporter.Leave(context.WithoutCancel(ctx))
	}
}

// secretDir is where secrets are that root alone may read. PID 1 passes each file in it as a
// credential (LoadCredential=fleet:… in the unit).
const secretDir = "/etc/pool-managerd/fleet"

// secretPath is where this program reads a file: its credential, where it is one.
func secretPath(path string) string {
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	if rest, is := strings.CutPrefix(path, secretDir+"/"); is && credentials != "" {
		return filepath.Join(credentials, "fleet_"+strings.ReplaceAll(rest, "/", "_"))
	}
	return path
}

func readSecret(key, path string) ([]byte, error) {
	content, err := os.ReadFile(secretPath(path))
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%s: could not read %s: move it to %s, which PID 1 reads for this program, or let "+
			"every user read it", key, path, secretDir)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s: %s does not exist; after a change in %s: systemctl restart pool-fleet", key, path,
			secretDir)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return content, nil
}

// readToken reads a file with one token; without a path, there is none.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	content, err := readSecret("[orchestrator] token_file", path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("[orchestrator] token_file: %s is not one token of printable characters in one line",
			path)
	}
	return token, nil
}

// transportOf connects without a proxy of the environment, since the unit has none.
func transportOf(caFile string) (*http.Transport, error) {
	t := &http.Transport{MaxIdleConnsPerHost: 1, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if caFile == "" {
		return t, nil
	}
	content, err := readSecret("[orchestrator] ca_file", caFile)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("[orchestrator] ca_file: %s has no certificate in PEM", caFile)
	}
	return t, nil
}
