//go:build machine && engines

package e2e

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// The environments that engines are installed into, with the version of each package.
var (
	//go:embed testdata/engines/vllm.txt
	vllmRequirements string
	// nameVLLM gives the package the name by which the vllm command asks for its version: the build
	// for the CPU lacks it, and every vllm command would end.
	//go:embed testdata/engines/vllm-after.sh
	nameVLLM string
	//go:embed testdata/engines/triton.txt
	tritonRequirements string
)

// installTime bounds one installation from PyPI.
const installTime = 20 * time.Minute

// loading is the longest that a real engine may take to be ready on a busy host.
const loading = 10 * time.Minute

// enginePackages are what the environments' machine has.
var enginePackages = []string{"python3", "python3-venv", "libnuma1", "libpython3.13"}

// environment installs packages into a directory of machines, once for all runs.
func environment(t *testing.T, guest, requirements, after string) machine.Bind {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), installTime,
		fmt.Errorf("not installed within %s", installTime))
	defer cancel()
	dir, err := machine.BuildPython(ctx, machine.Python{
		Recipe: machine.Recipe{Release: machine.Trixie, Packages: enginePackages},
		Guest:  guest, Requirements: requirements, After: after,
	}, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	return machine.Bind{Guest: guest, Host: dir}
}

// withEngine boots a machine that has the environment, and files of the test.
func withEngine(t *testing.T, env machine.Bind, files ...machine.File) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if err := machines.artifacts(ctx); err != nil {
		t.Fatal(err)
	}
	h, err := host.Boot(ctx, machine.Config{Release: machine.Trixie, Packages: enginePackages, Files: files,
		Binds: []machine.Bind{env}, Log: func(line string) { t.Log(line) }}, machines.parts)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, Host: h, began: time.Now()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			t.Log(h.Story(ctx, s.began))
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// requests are made in units of their own, which write the answer to a file.
const requests = "test-request"

// beginRequest sends a request to the engine that goes on beside the test.
func (s *site) beginRequest(id, path, body string) {
	s.t.Helper()
	s.shell("rm -f /root/answer; systemctl reset-failed " + requests + " 2>/dev/null || :")
	s.must("systemd-run", "--quiet", "--unit="+requests, "--property=RemainAfterExit=yes", "curl", "-sSN", "-o",
		"/root/answer", "-H", "Content-Type: application/json", "-d", body, s.get(id).Replicas[0].Endpoint+path)
}

// answered waits for the end of the request and returns what came.
func (s *site) answered() string {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		out, err := s.Host.Run(ctx, "systemctl", "show", "-p", "SubState", "--value", requests+".service")
		if state := strings.TrimSpace(out); err == nil && state == "running" {
			err = fmt.Errorf("the request is %s", state)
		}
		return err
	})
	text := s.shell("cat /root/answer; systemctl stop " + requests + " 2>/dev/null || :")
	return text
}

// signal sends a signal to the processes of a pool's engine whose command line matches.
func (s *site) signal(id, name, pattern string) {
	s.t.Helper()
	s.shell(fmt.Sprintf(`for p in $(systemctl show -p ControlGroup --value %[1]s | xargs -I{} cat /sys/fs/cgroup{}/cgroup.procs); do
		tr '\0' ' ' </proc/$p/cmdline | grep -q -- '%[3]s' && kill -%[2]s "$p" && found=1
	done; [ -n "$found" ]`, host.EngineUnit(id), name, pattern))
}

// sampled returns the sum of a metric's samples of the engine.
func (s *site) sampled(id, name string) float64 {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	a, err := s.Engine(ctx, id, http.MethodGet, "/metrics", nil)
	if err != nil || a.Status != http.StatusOK {
		s.t.Fatalf("/metrics: %d %v", a.Status, err)
	}
	sum := 0.0
	for line := range strings.Lines(string(a.Body)) {
		if labels, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(labels, name+"{") {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// took logs a figure for docs/sandbox.md.
func (s *site) took(what string, began time.Time) {
	s.t.Logf("%s took %s", what, time.Since(began).Round(100*time.Millisecond))
}
