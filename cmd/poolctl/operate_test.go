package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// operators notes what is asked, and lets the pool come to an end a moment later, as a daemon does.
type operators struct {
	reg   *registry.Registry
	asked string
	ends  func(p *registry.Pool)
	err   error

	problems []registry.Problem // of the configuration
}

func (o *operators) note(format string, args ...any) error {
	o.asked = fmt.Sprintf(format, args...)
	if o.err == nil && o.ends != nil {
		time.AfterFunc(20*time.Millisecond, func() {
			p, _ := o.reg.Pool("gemma")
			o.ends(&p)
			o.reg.Put(p)
		})
	}
	return o.err
}

func (o *operators) begin(change func(p *registry.Pool)) {
	p, _ := o.reg.Pool("gemma")
	change(&p)
	o.reg.Put(p)
}

func (o *operators) Drain(_ context.Context, id string, deadline time.Duration, _ string) error {
	o.begin(func(p *registry.Pool) {
		if p.Drain == nil {
			p.State, p.Ready = registry.StateDraining, false
		}
		p.Drain = &registry.Drain{}
	})
	return o.note("drain %s %s", id, deadline)
}

func (o *operators) DrainUntilRestart(_ context.Context, id string, deadline time.Duration, _ string) error {
	o.begin(func(p *registry.Pool) { p.Drain, p.State, p.Ready = &registry.Drain{}, registry.StateDraining, false })
	return o.note("drain until restart %s %s", id, deadline)
}

func (o *operators) Resume(_ context.Context, id, _ string) error {
	o.begin(func(p *registry.Pool) { p.State, p.Ready = registry.StateStaging, false })
	return o.note("resume %s", id)
}

func (o *operators) Reset(_ context.Context, id, _ string) error { return o.note("reset %s", id) }

func (o *operators) Restart(_ context.Context, id, _ string) error {
	o.begin(func(p *registry.Pool) { p.Ready, p.Drain = false, &registry.Drain{Restart: true} })
	return o.note("restart %s", id)
}

func (o *operators) Reload(_ context.Context, id string, r api.ReloadRequest) error {
	if o.err == nil {
		o.begin(func(p *registry.Pool) { p.Reload = &registry.Reload{ModelID: r.Model, Phase: "preparing"} })
	}
	return o.note("reload %s model=%s digest=%s deadline=%s forget=%t", id, r.Model, r.Digest, r.Deadline, r.Forget)
}

func (o *operators) Preload(context.Context, string, api.PreloadRequest) (wire.Preloaded, error) {
	return wire.Preloaded{}, errors.New("poolctl preloads nothing")
}

func (o *operators) Unload(_ context.Context, id, _ string) error {
	err := o.note("unload %s", id)
	if err == nil && o.ends == nil {
		o.reg.Remove(id)
	}
	return err
}

func (o *operators) ReloadFiles(_ context.Context, acceptEmpty bool, _ string) ([]registry.Problem, error) {
	return o.problems, o.note("reload files, accept empty: %t", acceptEmpty)
}

// TestReloadFiles: without a pool, reload is about the configuration files.
func TestReloadFiles(t *testing.T) {
	problems := []registry.Problem{{File: "/etc/a.toml", Text: "the file is gone", Hint: "Restore it."}}
	for _, c := range []struct {
		name, line string
		problems   []registry.Problem
		asked      string
		code       int
		says       string
	}{
		{"good", "reload", nil, "reload files, accept empty: false", exitOK, "The configuration is in force."},
		{"problems", "reload", problems, "reload files, accept empty: false", exitFailed,
			"CONFIG_INVALID: the file is gone\n    Restore it.\n"},
		{"as_json", "reload -o json", problems, "reload files, accept empty: false", exitFailed, `{"problems":[{"file":"/etc/a.toml",`},
		{"accept_empty", "reload --accept-empty", nil, "reload files, accept empty: true", exitOK, "in force"},
		{"accept_empty_of_a_pool", "reload gemma --accept-empty", nil, "", exitUsage, "it takes no pool"},
		{"model_without_a_pool", "reload --model file:/b", nil, "", exitUsage, "--model is about a pool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.operators.problems = c.problems
			r := h.run(strings.Fields(c.line)...)
			if r.code != c.code || !strings.Contains(r.out+r.errOut, c.says) || h.operators.asked != c.asked {
				t.Errorf("status %d, asked %q\n%s%s\nwant status %d, %q and %q", r.code, h.operators.asked, r.out,
					r.errOut,
					c.code, c.asked, c.says)
			}
		})
	}
}

// TestDrainAll: every pool is drained, also beside one that refuses; with --wait the command ends
// when nothing runs, and names what was cut.
func TestDrainAll(t *testing.T) {
	for _, c := range []struct {
		name string
		ends func(p *registry.Pool)
		err  error
		code int
		says string
	}{
		{"drained", func(p *registry.Pool) { p.State = registry.StateStopped }, nil, exitOK, "all pools are drained"},
		{"refused", func(p *registry.Pool) { p.State = registry.StateRefused }, nil, exitOK, "all pools are drained"},
		{"cut", func(p *registry.Pool) {
			p.State = registry.StateStopped
			p.LastError = registry.Fail(registry.CodeDrainTimeout, "1 lease was still held", "")
		}, nil, exitFailed, "gemma: DRAIN_TIMEOUT: 1 lease was still held"},
		{"not_taken", nil, registry.Fail(registry.CodeStateNotSaved, "the disk is full", ""), exitFailed, "gemma: STATE_NOT_SAVED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.reg.Put(registry.Pool{ID: "gemma", State: registry.StateReady, Ready: true, Live: true, ActiveLeases: 2})
			h.operators.err = c.err
			h.operators.ends = func(p *registry.Pool) { p.Live, p.Ready = false, false; c.ends(p) }
			if c.err != nil {
				h.operators.ends = nil
			}
			args := []string{"drain", "--all", "--until-restart"}
			if c.err == nil {
				args = append(args, "--wait")
			}
			r := h.run(args...)
			if r.code != c.code || !strings.Contains(r.out+r.errOut, c.says) ||
				!strings.Contains(r.out, "draining 1 pool; 2 leases held") ||
				h.operators.asked != "drain until restart gemma -1ns" {
				t.Errorf("status %d, asked %q\n%s%s", r.code, h.operators.asked, r.out, r.errOut)
			}
		})
	}
}

func TestOperate(t *testing.T) {
	ready := func(p *registry.Pool) {
		p.State, p.Ready, p.Drain, p.Reload, p.LastError = registry.StateReady, true, nil, nil, nil
	}
	stopped := func(p *registry.Pool) { p.State = registry.StateStopped }
	timeout := registry.Fail(registry.CodeDrainTimeout, "3 leases were still held at the drain deadline and were cut",
		"")
	broken := registry.Fail(registry.CodeConfigInvalid, "gemma.toml:1:1: broken", "")
	back := func(p *registry.Pool) {
		ready(p)
		p.LastError = registry.Fail(registry.CodeModelNotFound, "/srv/b.gguf: no such file", "")
	}
	cases := []struct {
		name, line string
		ends       func(*registry.Pool)
		err        error
		asked      string
		code       int
		says       string
	}{
		{"drain", "drain gemma", nil, nil, "drain gemma -1ns", exitOK, "gemma: drain in progress; the pool is draining"},
		{"drain/deadline", "drain gemma --deadline 1m30s", nil, nil, "drain gemma 1m30s", exitOK, "in progress"},
		{"drain/wait", "drain gemma -w", stopped, nil, "drain gemma -1ns", exitOK, "gemma is drained"},
		{"drain/cut", "drain gemma --wait", func(p *registry.Pool) { stopped(p); p.LastError = timeout }, nil, "drain gemma -1ns", exitFailed, "3 leases were still held"},
		{"drain/with_a_broken_file", "drain gemma --wait", func(p *registry.Pool) { stopped(p); p.LastError = broken }, nil, "drain gemma -1ns", exitOK, "gemma is drained"},
		{"drain/resumed_by_another", "drain gemma --wait", ready, nil, "drain gemma -1ns", exitFailed, "it was resumed meanwhile"},
		{"drain/bad_deadline", "drain gemma --deadline -5s", nil, nil, "", exitUsage, "--deadline is -5s"},
		{"drain/no_such_pool", "drain gema", nil, nil, "", exitNoPool, "Did you mean gemma?"},
		{"drain/until_restart", "drain gemma --until-restart", nil, nil, "drain until restart gemma -1ns", exitOK, "in progress"},
		{"drain/all_or_one", "drain gemma --all", nil, nil, "", exitUsage, "--all is every pool"},
		{"drain/none", "drain", nil, nil, "", exitUsage, "drain needs a pool"},
		{"resume/several", "resume gem* --wait", ready, nil, "resume gemma", exitOK, "gemma is ready"},
		{"resume", "resume gemma --wait", ready, nil, "resume gemma", exitOK, "gemma is ready"},
		{"resume/in_vain", "resume gemma --wait", func(p *registry.Pool) { ready(p); p.State, p.Ready, p.LastError = registry.StateInvalid, false, broken }, nil,
			"resume gemma", exitFailed, "it is invalid: CONFIG_INVALID: gemma.toml:1:1: broken"},
		{"reset", "reset gemma --wait", ready, nil, "reset gemma", exitOK, "gemma is ready"},
		{"restart", "restart gemma --wait", ready, nil, "restart gemma", exitOK, "gemma is ready again"},
		{"unload", "unload gemma", ready, nil, "unload gemma", exitOK, "gemma: removal in progress; the pool is"},
		{"unload/wait", "unload gemma --wait", nil, nil, "unload gemma", exitOK, "gemma is gone"},
		{"unload/of_a_file", "unload gemma", nil, registry.Fail(registry.CodePoolFromFile, "pool gemma is that of a pool file", "Remove it."),
			"unload gemma", exitFailed, "POOL_FROM_FILE"},
		{"unload/no_such_pool", "unload gema", nil, nil, "", exitNoPool, "Did you mean gemma?"},
		{"reload", "reload gemma --model file:/srv/b.gguf --digest sha256:00 --wait", ready, nil,
			"reload gemma model=file:/srv/b.gguf digest=sha256:00 deadline=-1ns forget=false", exitOK, "gemma serves"},
		{"reload/rolled_back", "reload gemma --model file:/srv/b.gguf --wait", back, nil,
			"reload gemma model=file:/srv/b.gguf digest= deadline=-1ns forget=false", exitFailed, "the former version serves: MODEL_NOT_FOUND"},
		{"reload/forget", "reload gemma --forget", nil, nil, "reload gemma model= digest= deadline=-1ns forget=true", exitOK, "in progress"},
		{"reload/forget_and_model", "reload gemma --forget --model file:/b", nil, nil, "", exitUsage, "--forget cannot be combined"},
		{"reload/in_progress", "reload gemma", nil, registry.Fail(registry.CodeReloadInProgress, "a reload to file:/b is under way", "Wait."),
			"reload gemma model= digest= deadline=-1ns forget=false", exitFailed, "RELOAD_IN_PROGRESS"},
		{"reload/as_json", "reload gemma -o json", nil, nil, "reload gemma model= digest= deadline=-1ns forget=false", exitOK, `"phase":"preparing"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.fill()
			h.operators.ends, h.operators.err = c.ends, c.err
			r := h.run(strings.Fields(c.line)...)
			if r.code != c.code || !strings.Contains(r.out+r.errOut, c.says) || h.operators.asked != c.asked {
				t.Errorf("status %d, asked %q\n%s%s\nwant status %d, %q and %q", r.code, h.operators.asked, r.out,
					r.errOut, c.code, c.asked, c.says)
			}
		})
	}
}

// TestDrainOfADrainedPool: a call reports its own result. That an earlier drain was cut is no
// failure of one that finds the pool stopped, as asked; a drain in progress is waited
// for, even if another caller began it.
func TestDrainOfADrainedPool(t *testing.T) {
	timeout := registry.Fail(registry.CodeDrainTimeout, "3 leases were still held at the drain deadline and were cut",
		"")
	cut := func(p *registry.Pool) {
		p.State, p.Drain, p.LastError = registry.StateStopped, &registry.Drain{}, timeout
	}
	for _, c := range []struct {
		name string
		is   func(p *registry.Pool)
		code int
		says string
	}{
		{"cut_and_stopped_before", cut, exitOK, "gemma is drained"},
		{"about_to_be_cut", func(p *registry.Pool) { p.State, p.Drain = registry.StateDraining, &registry.Drain{} }, exitFailed, "3 leases were still held"},
		{"stopped_on_its_way_to_a_restart", func(p *registry.Pool) { cut(p); p.Drain.Restart = true }, exitFailed, "3 leases were still held"},
		{"stopped_by_hand", func(p *registry.Pool) { p.State = registry.StateStopped }, exitFailed, "3 leases were still held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.fill()
			h.operators.ends = cut
			h.operators.begin(c.is)
			if r := h.run("drain", "gemma", "--wait"); r.code != c.code || !strings.Contains(r.out+r.errOut, c.says) {
				t.Errorf("status %d\n%s%s\nwant status %d and %q", r.code, r.out, r.errOut, c.code, c.says)
			}
		})
	}
}

// TestStatusOfOperations: what operators asked for shows.
func TestStatusOfOperations(t *testing.T) {
	h := newHost(t)
	h.fill()
	p, _ := h.reg.Pool("gemma")
	p.Override = &registry.Override{ModelID: "file:/srv/b.gguf", Since: clock.Add(-time.Hour)}
	p.Reload = &registry.Reload{ModelID: "file:/srv/c.gguf", Phase: "beside", Since: clock}
	p.Drain = &registry.Drain{Since: clock, Until: clock.Add(30 * time.Second)}
	h.reg.Put(p)
	h.golden(t, "status-operated", "status gemma")
	staged := single(registry.StateStaging, 1)
	staged.ModelID, staged.Engine = "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M", "llamacpp"
	staged.Staging = &registry.Staging{Bytes: 2_050_000_000, Total: 5_000_000_000, Rate: 310_000_000,
		File: "Qwen3-8B-Q4_K_M.gguf"}
	h.reg.Put(registry.Aggregate(staged))
	h.golden(t, "status-downloading", "status gemma")
}
