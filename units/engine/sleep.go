package engine

import (
	"encoding/json"
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Sleep is how an engine reports that it has given up its memory until it is used again. The zero
// value is of one that does not sleep.
type Sleep struct {
	Path string // asked without waking the engine; "": it does not sleep
	Read func(body []byte) (asleep bool, err error)
	// Idle: it falls asleep when no request was made for a while, so that the manager's own
	// requests would keep it awake. Otherwise another program has it sleep.
	Idle bool
}

// sleeper is an adapter whose engine can sleep.
type sleeper interface{ sleep(p pool.Pool) Sleep }

// SleepOf returns how an engine of that pool sleeps.
func SleepOf(a Adapter, p pool.Pool) Sleep {
	if x, ok := a.(prefixed); ok {
		s := SleepOf(x.Adapter, p)
		s.Path = x.path(s.Path)
		return s
	}
	if s, ok := a.(sleeper); ok {
		return s.sleep(p)
	}
	return Sleep{}
}

// sleep: since 2026, with --sleep-idle-seconds. GET /slots wakes llama-server and restarts its
// time; /health, /metrics and /props do neither (seen on 0.7.0).
func (llamaCpp) sleep(p pool.Pool) Sleep {
	f := llamaCpp{}.flags(p)
	if n, ok := f.integer(1<<30, "LLAMA_ARG_SLEEP_IDLE_SECONDS", "--sleep-idle-seconds"); !ok || n == 0 {
		return Sleep{}
	}
	return Sleep{Path: "/props", Idle: true, Read: sleeping}
}

// sleep: by POST /sleep, which --enable-sleep-mode and the development mode of the server open.
func (vllm) sleep(p pool.Pool) Sleep {
	if !vllmSyntax.has(p.Args, "--enable-sleep-mode") ||
		p.Variables()["VLLM_SERVER_DEV_MODE"] != "1" {
		return Sleep{}
	}
	return Sleep{Path: "/is_sleeping", Read: sleeping}
}

// sleeping reads the field is_sleeping, which both engines have.
func sleeping(body []byte) (bool, error) {
	var answer struct {
		Sleeping *bool `json:"is_sleeping"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return false, bounds.Refuse(bounds.OfSleep, "no JSON object with is_sleeping: %s", bounds.Quote(err.Error()))
	}
	if answer.Sleeping == nil {
		return false, fmt.Errorf("read is_sleeping: %w", errNotReported)
	}
	return *answer.Sleeping, nil
}

// contextual is an adapter whose engine reports the context that it serves.
type contextual interface {
	contextPath() string
	context(body []byte) (int, error)
}

// ContextOf returns the path that reports the context of one request, and the function that reads
// its answer; "" if the engine does not report it.
func ContextOf(a Adapter) (path string, read func(body []byte) (int, error)) {
	if x, ok := a.(prefixed); ok {
		path, read = ContextOf(x.Adapter)
		return x.path(path), read
	}
	if c, ok := a.(contextual); ok {
		return c.contextPath(), c.context
	}
	return "", nil
}

func (llamaCpp) contextPath() string { return "/props" }

// context is that of one slot, which --fit may have made smaller than was asked for.
func (llamaCpp) context(body []byte) (int, error) {
	var answer struct {
		Settings struct {
			Ctx json.RawMessage `json:"n_ctx"`
		} `json:"default_generation_settings"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, bounds.Refuse(bounds.OfContext, "no JSON object: %s", bounds.Quote(err.Error()))
	}
	if answer.Settings.Ctx == nil {
		return 0, fmt.Errorf("read n_ctx: %w", errNotReported)
	}
	return bounds.Int(bounds.OfContext, string(answer.Settings.Ctx), 1, bounds.Context)
}
