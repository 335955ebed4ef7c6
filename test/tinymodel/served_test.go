//go:build machine

package tinymodel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// TestServed holds that a real llama-server loads the model and generates from it, the smallest and
// a larger one.
func TestServed(t *testing.T) {
	models := t.TempDir()
	sizes := map[string]int64{"smallest": 0, "large": 40 << 20}
	for name, size := range sizes {
		if err := tinymodel.Write(filepath.Join(models, name+".gguf"), tinymodel.Options{Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	m := machine.Start(t, machine.Config{
		Release: machine.Forky,
		Files:   []machine.File{{Guest: "/srv/models", Host: models}},
	})
	for name := range sizes {
		t.Run(name, func(t *testing.T) {
			unit := "llama-" + name
			m.MustRun(t, "systemd-run", "--unit="+unit, "llama-server", "--model", "/srv/models/"+name+".gguf",
				"--port", "9000", "--no-ui")
			client := m.HTTPClient("tcp", "127.0.0.1:9000")
			defer client.CloseIdleConnections()

			healthy(t, client)
			const tokens = 24
			var chat struct {
				Choices []struct{ Text string }
				Usage   struct {
					Completion int `json:"completion_tokens"`
				}
			}
			post(t, client, "/v1/completions", `{"prompt":"hello","max_tokens":24}`, &chat)
			if len(chat.Choices) != 1 || len(chat.Choices[0].Text) != tokens || chat.Usage.Completion != tokens {
				t.Errorf("/v1/completions: want %d characters from as many tokens: %+v", tokens, chat)
			}
			var plain struct {
				Content   string
				Predicted int `json:"tokens_predicted"`
			}
			post(t, client, "/completion", `{"prompt":"hello","n_predict":24}`, &plain)
			if len(plain.Content) != tokens || plain.Predicted != tokens {
				t.Errorf("/completion: want %d characters from as many tokens: %+v", tokens, plain)
			}
			if strings.ContainsFunc(plain.Content, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("/completion: %q is not printable ASCII", plain.Content)
			}
			m.MustRun(t, "systemctl", "stop", unit)
		})
	}
}

// healthy waits until /health answers 200.
func healthy(t *testing.T, client *http.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("the engine did not become healthy")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// post sends JSON and decodes the answer, which must be 200.
func post(t *testing.T, client *http.Client, path, body string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s\n%s", path, resp.Status, text)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(answer); err != nil {
		t.Fatalf("POST %s: %v\n%s", path, err, text)
	}
}
