package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
)

// TestARealPrometheusScrapes: it takes what the product serves, and evaluates every rule on it.
func TestARealPrometheusScrapes(t *testing.T) {
	tool, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed (apt-get install prometheus): no real one scrapes")
	}
	reg := registry.New()
	m := metrics.New(metrics.Options{Registry: reg, Version: "1", Engines: []string{"llamacpp"},
		Log: slog.New(slog.DiscardHandler), Reasons: metrics.Reasons{Restarts: []string{"crash"}}})
	reg.Put(registry.Aggregate(registry.Pool{ID: "tiny", Engine: "llamacpp", Replicas: []registry.Replica{
		{ID: "r0", State: registry.StateReady, Ready: true, Live: true, SlotsTotal: 4, EngineVersion: "0.7.0"}}}))
	tokens := uint64(7)
	m.Counted(registry.Pool{ID: "tiny"}, "r0", "0.7.0", registry.Counted{TokensOut: &tokens,
		FirstToken: &registry.Latency{Buckets: make([]uint64, 11), Count: 1, SumMS: 5000}})
	product := httptest.NewServer(m.Handler())
	defer product.Close()
	api := prometheus(t, tool, product.Listener.Addr().String())
	for query, want := range map[string]string{
		`up{job="pool-managerd"}`:                                 "1",
		`pool_ready{pool_id="tiny"}`:                              "1",
		`tokens_out_total{pool_id="tiny"}`:                        "7",
		`latency_first_token_ms_bucket{pool_id="tiny",le="+Inf"}`: "1",
		`restart_scheduled_total{pool_id="tiny",reason="crash"}`:  "0",
		`scrape_samples_scraped{job="pool-managerd"} > bool 50`:   "1",
		`pool:slots_used:ratio{pool_id="tiny"}`:                   "0",
	} {
		var got string
		for range 120 {
			if got = ask(t, api, query); got == want {
				break
			}
			time.Sleep(500 * time.Millisecond)
		}
		if got != want {
			t.Errorf("%s is %q, want %s", query, got, want)
		}
	}
	rules := get(t, api+"/api/v1/rules")
	if !strings.Contains(rules, `"name":"PoolNotReady"`) || strings.Contains(rules, `"health":"err"`) {
		t.Errorf("a rule has an error: %.3000s", rules)
	}
}

// prometheus starts one that scrapes the address each second, and returns its URL.
func prometheus(t *testing.T, tool, target string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	rules, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n"+
		"  - job_name: pool-managerd\n    static_configs: [{targets: [%q]}]\n",
		filepath.Join(rules, "*.rules.yml"), target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, tool, "--config.file="+config, "--web.listen-address="+address,
		"--storage.tsdb.path="+t.TempDir())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Logf("%.3000s", out)
		}
	})
	return "http://" + address
}

// ask returns the first value of a query, "" for none or while Prometheus does not answer.
func ask(t *testing.T, api, query string) string {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	body := get(t, api+"/api/v1/query?query="+url.QueryEscape(query))
	if json.Unmarshal([]byte(body), &answer) != nil || len(answer.Data.Result) == 0 {
		return ""
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return text
}

func get(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "" // it has not started yet
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return ""
	}
	return string(body)
}
