package render_test

import (
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestRuntimeDirectory: an engine has an empty /run with the journal's sockets; a GPU adds the
// driver's daemons. What only the commands of root need is inaccessible to the engine.
func TestRuntimeDirectory(t *testing.T) {
	journal := []string{"/run/systemd/journal/dev-log", "/run/systemd/journal/socket", "/run/systemd/journal/stdout"}
	driver := []string{"/run/nvidia-fabricmanager", "/run/nvidia-persistenced", "/run/opengl-driver"}
	for name, c := range map[string]struct {
		in   render.Input
		want []string
	}{
		"cpu":         {input(), slices.Concat([]string{"/run/current-system"}, journal)},
		"gpu":         {input(gpus([]string{"0"})), slices.Concat([]string{"/run/current-system"}, driver, journal)},
		"model_in_it": {input(modelAt("/run/media/a")), slices.Concat([]string{"/run/current-system", "/run/media/a"}, journal)},
	} {
		t.Run(name, func(t *testing.T) {
			trees := property(t, c.in, "TemporaryFileSystem").([]systemd.PathOptions)
			if !slices.Contains(trees, systemd.PathOptions{Path: "/run", Options: "ro"}) {
				t.Errorf("empty trees %v", trees)
			}
			shut := property(t, c.in, "InaccessiblePaths").([]string)
			var got []string
			for _, b := range property(t, c.in, "BindReadOnlyPaths").([]systemd.BindMount) {
				if strings.HasPrefix(b.Destination, "/run/") && !slices.Contains(shut, "-"+b.Destination) {
					got = append(got, b.Destination)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("in /run: %q, want %q", got, c.want)
			}
		})
	}
}

// TestSharedMemory: an engine has a /dev/shm of its own, as large as its memory.
func TestSharedMemory(t *testing.T) {
	hostMemory := func(in *render.Input) { in.Host.MemoryBytes = 64 << 30 }
	limited := with(func(p *pool.Pool) { p.Limits.MemoryMaxBytes = 24 << 30 })
	for name, c := range map[string]struct {
		in   render.Input
		want string
	}{
		"no_limit":   {input(hostMemory), "mode=1777,nosuid,nodev,noexec,size=34359738368"},
		"memory_max": {input(hostMemory, limited), "mode=1777,nosuid,nodev,noexec,size=25769803776"},
		"key":        {input(limited, with(func(p *pool.Pool) { p.Sandbox.ShmBytes = 1 << 30 })), "mode=1777,nosuid,nodev,noexec,size=1073741824"},
		"a_gpu":      {input(hostMemory, gpus([]string{"0"})), "mode=1777,nosuid,nodev,noexec,size=34359738368"},
		"generating_code": {input(hostMemory, kind(engine.SGLang, "/opt/sglang/bin/sglang", "/srv/models/llama3")),
			"mode=1777,nosuid,nodev,size=34359738368"},
		"vllm": {input(hostMemory, kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3")),
			"mode=1777,nosuid,nodev,noexec,size=34359738368"},
		"nothing_is_known": {input(), "mode=1777,nosuid,nodev,noexec"},
	} {
		trees := property(t, c.in, "TemporaryFileSystem").([]systemd.PathOptions)
		if !slices.Contains(trees, systemd.PathOptions{Path: "/dev/shm", Options: c.want}) {
			t.Errorf("%s: %v, want %s", name, trees, c.want)
		}
	}
}

// TestAddresses: an engine uses one address of the loopback in each family. Python engines also use
// the one that /etc/hosts may have for the host's name.
func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		in   render.Input
		want string
	}{
		"llamacpp": {input(), "127.0.0.1 ::1"},
		"gpu":      {input(gpus([]string{"0"})), "127.0.0.1 ::1"},
		"vllm":     {input(kind(engine.VLLM, "/usr/bin/vllm", "/srv/models/a")), "127.0.0.1 ::1 127.0.1.1"},
	} {
		var got []string
		for _, a := range property(t, c.in, "IPAddressAllow").([]systemd.AddressPrefix) {
			if int(a.Prefix) != 8*len(a.Address) {
				t.Errorf("%s: %v/%d is more than one address", name, a.Address, a.Prefix)
			}
			got = append(got, net.IP(a.Address).String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %s", name, got, c.want)
		}
	}
}

// TestUserNames: each replica and side has a user of its own, by a name that PID 1 accepts.
func TestUserNames(t *testing.T) {
	named := func(id string) change { return with(func(p *pool.Pool) { p.ID = id }) }
	seen := map[string]string{}
	for name, in := range map[string]render.Input{
		"llama3/r0":   input(),
		"llama3/r0b":  input(func(in *render.Input) { in.Side = 1 }),
		"llama3/r1":   input(func(in *render.Input) { in.Replica = 1 }),
		"dots":        input(named("a.b_c-d")),
		"like_dots":   input(named("a-b-c-d")),
		"longest":     input(named(strings.Repeat("x", 63)), func(in *render.Input) { in.Replica = 63 }),
		"longest_too": input(named(strings.Repeat("x", 62)+"y"), func(in *render.Input) { in.Replica = 63 }),
		"digits":      input(named("0")),
	} {
		user := property(t, in, "User").(string)
		if !regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`).MatchString(user) {
			t.Errorf("%s: user %q", name, user)
		}
		if other, twice := seen[user]; twice {
			t.Errorf("%s and %s are one user, %s", name, other, user)
		}
		seen[user] = name
	}
}
