package poollog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

func logger(level slog.Level) (*slog.Logger, *Handler, *registry.Registry, *bytes.Buffer) {
	var out bytes.Buffer
	reg := registry.New()
	h := New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level}), reg)
	return slog.New(h), h, reg, &out
}

// fieldsOf are those of a line beside its time, level and message.
func fieldsOf(t *testing.T, line string) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for _, name := range []string{"time", "level", "msg"} {
		delete(fields, name)
	}
	return fields
}

// TestFields: a line that names its pool has all fields of a line about a pool, and a writer's own
// values win.
func TestFields(t *testing.T) {
	log, _, reg, out := logger(slog.LevelInfo)
	p := registrytest.Llama()
	p.Correlation = "req-1"
	reg.Put(p)
	ofPool := map[string]any{"pool_id": "llama3-8b", "engine": "llamacpp", "engine_version": "b5000",
		"model_id": "file:/srv/models/llama3-8b-q4.gguf", "device_mask": "0,1", "restart_count": 3.0,
		"backoff_ms": 5100.0, "correlation_id": "req-1"}
	last := registrytest.Llama().Replicas[1].LastError.Error()
	with := func(of map[string]any, pairs ...any) map[string]any {
		all := make(map[string]any)
		for k, v := range of {
			all[k] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i].(string)] = pairs[i+1]
		}
		return all
	}
	for _, c := range []struct {
		name string
		log  func()
		want map[string]any
	}{
		{"of_a_pool", func() { log.Info("x", "pool_id", "llama3-8b") }, with(ofPool, "last_error", last)},
		{"of_a_replica", func() { log.Info("x", "pool_id", "llama3-8b", "replica_id", "r0") },
			with(ofPool, "replica_id", "r0", "device_mask", "0", "restart_count", 0.0, "backoff_ms", 0.0)},
		{"of_a_replica_that_crashed", func() { log.Info("x", "pool_id", "llama3-8b", "replica_id", "r1") },
			with(ofPool, "replica_id", "r1", "device_mask", "1", "last_error", last)},
		{"of_a_logger_of_the_pool", func() { log.With("pool_id", "llama3-8b").Info("x") },
			with(ofPool, "last_error", last)},
		{"the_writers_value", func() { log.Info("x", "pool_id", "llama3-8b", "model_id", "new", "last_error", "no") },
			with(ofPool, "model_id", "new", "last_error", "no")},
		{"complete_already", func() { log.Info("x", "pool_id", "llama3-8b", "restart_count", 7) },
			map[string]any{"pool_id": "llama3-8b", "restart_count": 7.0}},
		{"of_an_unknown_pool", func() { log.Info("x", "pool_id", "new") }, map[string]any{"pool_id": "new"}},
		{"of_no_pool", func() { log.Info("x", "unit", "u") }, map[string]any{"unit": "u"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out.Reset()
			c.log()
			if diff := cmp.Diff(c.want, fieldsOf(t, out.String())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestCrashLoops: fifty pools whose engines crash each second write at most so many lines a minute,
// the events among them rather than others, and what was left out is counted.
func TestCrashLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, _, out := logger(slog.LevelInfo)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.Run(ctx)
		}()
		written, passed, counted := 0, 0, 0
		const minutes = 5
		for minute := range minutes {
			for range 60 {
				for p := range 50 {
					id := fmt.Sprintf("p%02d", p)
					for range 9 {
						log.Info("a step of the crash", "pool_id", id, "restart_count", 1)
					}
					log.Warn("an engine ended", "pool_id", id, catalogue.Key, catalogue.EngineEnded)
					written += 10
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(lines) > ofAllMore+1 {
				t.Errorf("minute %d: %d lines, want at most %d", minute, len(lines), ofAllMore+1)
			}
			passed += len(lines)
			for _, line := range lines {
				if f := fieldsOf(t, line); f["count"] != nil {
					counted += int(f["count"].(float64))
					passed--
				}
			}
			if n := strings.Count(out.String(), catalogue.EngineEnded); n < ofAllMore-ofAll {
				t.Errorf("minute %d: %d lines with a message id, want at least %d", minute, n, ofAllMore-ofAll)
			}
			out.Reset()
		}
		stop()
		<-ended
		if rest := out.String(); rest != "" {
			counted += int(fieldsOf(t, rest)["count"].(float64))
		}
		if written != passed+counted {
			t.Errorf("%d lines: %d passed and %d were counted", written, passed, counted)
		}
	})
}

// TestWhatIsNotLimited: one pool does not silence another, and the audit and what someone turned on
// for a search are complete.
func TestWhatIsNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, _, out := logger(slog.LevelDebug)
		count := func(text string) int { return strings.Count(out.String(), text) }
		for range 1000 {
			log.Info("loud", "pool_id", "loud")
			log.Debug("search", "pool_id", "loud")
			log.Info("audit", "pool_id", "loud", "identity", "uid:0")
			log.Info("host")
		}
		log.Info("quiet", "pool_id", "quiet")
		for text, want := range map[string]int{`"loud"}`: ofPool + 1000, `"search"`: 1000, `"audit"`: 1000, `"host"`: 1000,
			`"msg":"quiet"`: 1} {
			if got := count(text); got != want {
				t.Errorf("%s: %d, want %d", text, got, want)
			}
		}
		time.Sleep(window)
		out.Reset()
		if log.Info("loud", "pool_id", "loud"); count("loud") == 0 {
			t.Error("a minute later it is still silent")
		}
	})
}
