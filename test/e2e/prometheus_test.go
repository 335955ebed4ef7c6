//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// prometheusConfig is that of docs/monitoring.md, but for the intervals.
const prometheusConfig = `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["/usr/share/pool-managerd/monitoring/*.rules.yml"]
scrape_configs:
  - job_name: pool-managerd
    static_configs: [{targets: ["` + host.TCPAddress + `"]}]
`

// TestPrometheus: Debian's Prometheus, as an ordinary user of the host, scrapes the installed
// manager and takes the installed rules; an alert fires for a pool whose engine keeps crashing, and
// for no other.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.Container, extra: "prometheus"})
	h.pool("good", stub().quick())
	h.pool("bad", stub("--crash-after", "200ms").table("restart", `initial = "200ms"`, `max = "200ms"`, `jitter = 0.0`,
		`breaker_failures = 50`))
	h.reload()
	h.write("/etc/prometheus/prometheus.yml", prometheusConfig)
	h.must("systemctl", "restart", "prometheus")
	h.wait("good", isReady)

	client := h.M.HTTPClient("tcp", "127.0.0.1:9090")
	defer client.CloseIdleConnections()
	h.eventually(func(ctx context.Context) error { return target(ctx, client) })
	h.eventually(func(ctx context.Context) error {
		var rules struct {
			Groups []struct {
				Name  string
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := prometheusAnswer(ctx, client, "/api/v1/rules", &rules); err != nil {
			return err
		}
		if len(rules.Groups) < 3 {
			return fmt.Errorf("%d groups of rules", len(rules.Groups))
		}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s of %s is %s: %s", r.Name, g.Name, r.Health, r.LastError)
				}
			}
		}
		return nil
	})
	var firing []string
	h.eventually(func(ctx context.Context) error {
		var alerts struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
		if err := prometheusAnswer(ctx, client, "/api/v1/alerts", &alerts); err != nil {
			return err
		}
		firing = nil
		for _, a := range alerts.Alerts {
			if a.State == "firing" {
				firing = append(firing, a.Labels["alertname"]+" "+a.Labels["pool_id"])
			}
		}
		if len(firing) == 0 {
			return fmt.Errorf("no alert fires: %+v", alerts)
		}
		return nil
	})
	if len(firing) != 1 || firing[0] != "PoolRestartsOften bad" {
		t.Errorf("%q fire", firing)
	}
	t.Logf("it took %s", time.Since(h.began).Round(time.Second))
}

// target wants the manager to be scraped without an error.
func target(ctx context.Context, client *http.Client) error {
	var targets struct {
		ActiveTargets []struct{ Health, LastError string }
	}
	if err := prometheusAnswer(ctx, client, "/api/v1/targets", &targets); err != nil {
		return err
	}
	if t := targets.ActiveTargets; len(t) != 1 || t[0].Health != "up" {
		return fmt.Errorf("targets %+v", t)
	}
	return nil
}

// prometheusAnswer reads the data of an answer of Prometheus's API.
func prometheusAnswer(ctx context.Context, client *http.Client, path string, data any) error {
	at := url.URL{Scheme: "http", Host: "prometheus", Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}
