package render_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestNetworkByDefault: an engine has no network where it is known to do without, and the host can
// forward its port; the pool's file decides otherwise.
func TestNetworkByDefault(t *testing.T) {
	version := func(v string) change { return func(in *render.Input) { in.Prepared.Version = v } }
	forwards := func(in *render.Input) { in.Host.Forwarder = "/usr/lib/systemd/systemd-socket-proxyd" }
	network := func(n string) change { return with(func(p *pool.Pool) { p.Sandbox.Network = n }) }
	probe := func(p string) change { return with(func(pool *pool.Pool) { pool.Health.Probe = p }) }
	cases := []struct {
		name string
		with []change
		none bool
	}{
		{"llama_cpp_of_debian", []change{version("0.7.0"), forwards}, true},
		{"llama_cpp_build", []change{version("6123"), forwards}, true},
		{"an_older_build", []change{version("4900"), forwards}, false},
		{"an_older_release", []change{version("0.6.9"), forwards}, false},
		{"a_later_release", []change{version("1.0.0"), forwards}, true},
		{"of_unknown_version", []change{version(""), forwards}, false},
		{"a_patched_version", []change{version("1.0.0-stub"), forwards}, false},
		{"of_unknown_version_as_asked", []change{version(""), forwards, network("none")}, true},
		{"as_asked", []change{version("6123"), forwards, network("loopback")}, false},
		{"without_a_forwarder", []change{version("6123")}, false},
		{"that_computes_on_other_hosts", []change{version("6123"), forwards, args("--rpc", "10.0.0.1:50052")}, false},
		{"whose_probe_only_connects", []change{version("6123"), forwards, probe(pool.ProbeTCP)}, false},
		{"grpc", []change{version("6123"), forwards, probe(pool.ProbeGRPC)}, true},
		{"vllm", []change{kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"), version("0.9.2"), forwards}, false},
		{"command", []change{kind(engine.Program, "/usr/bin/stub", ""), forwards}, false},
		{"command_as_asked", []change{kind(engine.Program, "/usr/bin/stub", ""), forwards, network("none")}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			unit, err := render.Render(input(c.with...))
			if err != nil {
				t.Fatal(err)
			}
			text := unit.File()
			for _, line := range []string{"\nPrivateNetwork=yes", "\nListenStream=127.0.0.1:21000", "/engine.sock",
				"\nRuntimeDirectory=pool-engine/", "ENGINE_SOCKET="} {
				if strings.Contains(text, line) != c.none {
					t.Errorf("%q is there: %t, want %t", line, !c.none, c.none)
				}
			}
			if (unit.Port != nil) != c.none {
				t.Errorf("port %v", unit.Port)
			}
		})
	}
	t.Run("fails_without_a_forwarder", func(t *testing.T) {
		_, err := render.Render(input(network("none")))
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodeProvisionFailed || !strings.Contains(f.Hint, `"loopback"`) {
			t.Errorf("Render = %v", err)
		}
	})
}

// TestEngineOnASocket: an engine is given the socket and no port, in the longest names, too.
func TestEngineOnASocket(t *testing.T) {
	long := func(in *render.Input) { in.Pool.ID, in.Replica, in.Side = strings.Repeat("a", 63), 999, 1 }
	for name, in := range map[string]render.Input{
		"llamacpp": input(alone),
		"long":     input(alone, long),
		"vllm":     input(alone, kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3")),
		"command":  input(alone, kind(engine.Program, "/usr/bin/stub", ""), args("--listen={socket}")),
	} {
		plan, err := render.NewPlan(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		args := plan.Args()
		i := slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, "/engine.sock") })
		if i < 0 || slices.Contains(args, "--port") || slices.Contains(args, "127.0.0.1") {
			t.Errorf("%s: %q", name, args)
			continue
		}
		if socket := args[i]; len(strings.TrimPrefix(socket, "--listen=")) > 107 {
			t.Errorf("%s: %s has %d bytes, more than an address of a unix socket", name, socket, len(socket))
		}
	}
}
