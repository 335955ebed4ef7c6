package tree

import (
	"slices"
	"strings"
	"testing"
)

// only is an import that belongs to few: everybody else goes through them.
type only struct {
	Import string // a package path and what is below it
	In     []string
	Why    string
}

// Folders are relative to the root; a package of this module has its folder's name.
var onlyThere = []only{
	{"github.com/godbus/dbus/v5", []string{"systemd", "test"}, "only systemd/ speaks D-Bus"},
	{"github.com/coreos/go-systemd/v22", []string{"systemd", "cmd/pool-gpu"}, "its watchers poll and its calls have no context; types and activation are wrapped once"},
	{"github.com/pelletier/go-toml/v2", []string{"units/config", "cmd/hostconfig"}, "TOML is read in one strict way"},
	{"github.com/prometheus/client_golang", []string{"registry/metrics", "registry/api", "cmd/pool-managerd"}, "counting is a view of the registry, not part of a rule"},
	{"go.etcd.io/bbolt", []string{"units/boltfile", "units/keep", "units/provision", "units/perf/baselines", "test/bench"}, "a file on disk has one owner each: intents, verdicts, measurements; units/boltfile opens and heals them"},
	{"go.etcd.io/etcd", []string{"registry/fleet/etcd", "test"}, "etcd is spoken to by pool-fleet alone"},
	{"google.golang.org/grpc", []string{"registry/fleet/etcd", "test"}, "the manager and poolctl link no gRPC"},
	{"registry/fleet/etcd", []string{"cmd/pool-fleet", "test"}, "the manager and poolctl link no gRPC"},
	{"registry/fleet/serve", []string{"cmd/pool-fleet", "test"}, "the fleet is served by the program that reads it"},
	{"github.com/gpustack/gguf-parser-go", []string{"units/memory"}, "it panics on what it does not like; one place guards it"},
	{"github.com/google/go-containerregistry", []string{"units/fetch", "test"}, "the manager opens no connection outside of the host"},
	{"github.com/minio/minio-go/v7", []string{"units/fetch"}, "the manager opens no connection outside of the host"},
	{"go.yaml.in/yaml/v3", []string{"units/convert", "cmd/poolctl"}, "pool-managerd's own files are TOML"},
	{"units/convert", []string{"cmd/poolctl"}, "the manager reads no files of other programs"},
	{"github.com/getkin/kin-openapi", nil, "the description of the API is checked by tests"},
	{"github.com/spf13/cobra", []string{"cmd/poolctl"}, "the daemon has a handful of flags"},
	{"os/exec", []string{"cmd/poolctl", "units/gate", "test"}, "the daemon executes nothing: PID 1 does, in a sandbox"},
	{"github.com/NVIDIA/go-nvml", []string{"nvml/driver"}, "the daemon must not load NVIDIA's library"},
	{"nvml/driver", []string{"cmd/pool-gpu", "nvml/driver"}, "the driver is spoken to by pool-gpu alone"},
	{"C", []string{"nvml/driver"}, "every other program is static"},
	{"plugin", nil, "every program is static"},
	{"unsafe", []string{"registry/api", "units/gate", "nvml", "test/machine"}, "only system calls that x/sys has no wrapper for"},
	{"cmd", []string{"cmd"}, "a command is wiring, not a library"},
	{"test", []string{"test"}, "the product does not know its tests"},
}

// never is an import that a part must do without, directly.
type never struct {
	Part   string
	Import []string
	Why    string
}

var ours = []string{"cmd", "units", "systemd", "cgroups", "nvml", "registry"}

var neverThere = []never{
	{"systemd", []string{"units", "cgroups", "nvml", "registry", "cmd"}, "PID 1's client knows no pool"},
	{"cgroups", []string{"units", "nvml", "registry", "cmd"}, "limits know no pool"},
	{"nvml", []string{"units", "systemd", "cgroups", "registry", "cmd"}, "GPUs know neither pools nor PID 1"},
	{"registry", []string{"units", "systemd", "cgroups", "nvml"}, "the current state does not know what caused it"},
	{"units", []string{"registry/api", "registry/metrics", "cmd"}, "rules know no API"},
	{"units/pool", ours, "desired state is plain data"},
	{"units/render", []string{"os", "net", "net/http", "context", "math/rand", "math/rand/v2"}, "rendering is pure: facts are arguments"},
	{"units/reconcile", []string{"os", "net", "net/http", "context", "math/rand", "math/rand/v2"}, "decisions are pure: facts and the time are arguments"},
	{"units/restarts", []string{"units/config", "units/supervise", "units/render", "units/reconcile", "systemd", "os", "net", "context", "math/rand", "math/rand/v2"}, "when a start may be is pure: the time and the jitter's seed are arguments"},
	{"units/perf", append([]string{"os", "net", "context"}, "cmd", "systemd", "cgroups", "nvml"), "what a measurement means is a function of its times and counts"},
	{"units/gguf", ours, "a file's format knows nothing of what is done with it"},
	{"units/fetchunit", []string{"os", "net", "net/http", "context"}, "a unit is described by its arguments alone"},
	{"units/convert", []string{"os", "net", "net/http", "context"}, "a translation is a function of the text"},
	{"units/egress", []string{"os", "net/http", "context", "systemd"}, "the policy is pure: names and settings are arguments"},
	{"units/programs", append([]string{"os", "net", "context"}, ours...), "what a program needs is a function of a file system, which is an argument"},
	{"units/engine", []string{"os", "net", "context"}, "an adapter describes how to talk to an engine, and does not talk to it"},
	{"cmd/poolctl", []string{"units/supervise", "units/reconcile", "units/render", "units/provision", "units/gate", "systemd", "cgroups"}, "poolctl asks the daemon"},
	{"cmd/pool-gate", []string{"units/supervise", "units/reconcile", "units/render", "units/config", "registry/api", "systemd"}, "the gate works with no manager"},
	{"units/modelref", append([]string{"os", "net", "net/http", "context"}, ours...), "a reference is a text"},
	{"units/fetch/wire", append([]string{"os", "net", "net/http", "context"}, ours...), "a protocol is data"},
	{"units/fetch", []string{"units/pool", "units/config", "units/engine", "units/provision", "units/render", "units/supervise", "systemd", "cgroups", "nvml", "registry"}, "a fetch has a request, and knows nothing of who made it"},
	{"cmd/pool-fetch", []string{"units/pool", "units/config", "units/engine", "units/provision", "units/render", "units/supervise", "systemd", "cgroups", "nvml", "registry"}, "a fetch works with no manager"},
	{"cmd/pool-gpu", []string{"units", "systemd", "cgroups", "registry"}, "the helper is small, and has no client of the bus"},
	{"registry/fleet", []string{"registry/lease", "registry/metrics", "registry/handoff", "cmd"}, "a host is published as a reader of its API sees it"},
	{"registry/fleet/view", []string{"os", "net", "net/http", "context", "time"}, "what may be shown is a function of the keys"},
	{"cmd/pool-fleet", []string{"units", "cgroups", "nvml", "registry/api", "registry/lease", "registry/metrics"}, "the publisher is a reader of the API"},
	{"test/tree", ours, "a rule about the tree does not depend on the code"},
}

// exceptions of neverThere: packages inside a part that the rule is not about.
var exceptions = map[string][]string{
	"registry": {"registry/api"}, // serves views of what units render
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, imported := range f.Imports {
			p := strings.TrimPrefix(imported, module+"/")
			for _, why := range broken(f, p) {
				t.Errorf("%s imports %s: %s", f.Path, imported, why)
			}
		}
	}
}

// broken returns the reasons why f may not import p.
func broken(f goFile, p string) []string {
	var why []string
	for _, rule := range onlyThere {
		if within(p, rule.Import) && !f.Test() && !inside(f.Dir, rule.In) {
			why = append(why, rule.Why)
		}
	}
	for _, rule := range neverThere {
		if inside(f.Dir, []string{rule.Part}) && !inside(f.Dir, exceptions[rule.Part]) && !f.Test() &&
			listed(p, rule.Import) {
			why = append(why, rule.Why)
		}
	}
	return why
}

func inside(dir string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return within(dir, part) })
}

// listed matches packages of ours with all that is below them, and those of the standard library
// alone.
func listed(p string, imports []string) bool {
	return slices.ContainsFunc(imports, func(i string) bool {
		return p == i || slices.Contains(ours, strings.Split(i, "/")[0]) && within(p, i)
	})
}

// TestLayersRules shows that the rules would find what they are for.
func TestLayersRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, imported string
		want                 string // "" when it is allowed
	}{
		{"dbus_in_units", "units/supervise/a.go", "github.com/godbus/dbus/v5/introspect", "only systemd/ speaks D-Bus"},
		{"dbus_in_systemd", "systemd/a.go", "github.com/godbus/dbus/v5", ""},
		{"core_knows_units", "registry/handoff/a.go", "units/pool", "the current state does not know what caused it"},
		{"api_knows_units", "registry/api/a.go", "units/pool", ""},
		{"units_know_api", "units/supervise/a.go", "registry/api/wire", "rules know no API"},
		{"units_know_core", "units/provision/a.go", "registry", ""},
		{"daemon_executes", "units/provision/a.go", "os/exec", "the daemon executes nothing: PID 1 does, in a sandbox"},
		{"render_reads_files", "units/render/a.go", "os", "rendering is pure: facts are arguments"},
		{"render_net_netip", "units/render/a.go", "net/netip", ""},
		{"ctl_supervises", "cmd/poolctl/a.go", "units/supervise", "poolctl asks the daemon"},
		{"daemon_links_nvml", "cmd/pool-managerd/a.go", "github.com/NVIDIA/go-nvml/pkg/nvml", "the daemon must not load NVIDIA's library"},
		{"driver_links_nvml", "nvml/driver/a.go", "github.com/NVIDIA/go-nvml/pkg/nvml", ""},
		{"client_knows_driver", "nvml/client/a.go", "nvml/driver", "the driver is spoken to by pool-gpu alone"},
		{"helper_knows_pools", "cmd/pool-gpu/a.go", "units/pool", "the helper is small, and has no client of the bus"},
		{"command_as_library", "registry/api/a.go", "cmd/hostconfig", "a command is wiring, not a library"},
		{"tests_may", "units/render/a_test.go", "os", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.file[:strings.LastIndex(c.file, "/")]
			got := strings.Join(broken(goFile{Path: c.file, Dir: dir}, c.imported), "; ")
			if got != c.want {
				t.Errorf("%s imports %s: got %q, want %q", c.file, c.imported, got, c.want)
			}
		})
	}
}
