//go:build apifuzz

package api

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// likeManager refuses what the manager refuses of a preload.
type likeManager struct{ *operators }

func (o likeManager) Preload(ctx context.Context, id string, ask PreloadRequest) (wire.Preloaded, error) {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`).MatchString(id) {
		return wire.Preloaded{}, registry.Fail(registry.CodeInvalidParams, "it is no id of a pool", "Use another.")
	}
	return o.operators.Preload(ctx, id, ask)
}

// TestSchemathesis has it make requests of every operation that the served description lists, valid
// and invalid ones, and check the answers against that description. See make test-api-fuzz.
//
// Event streams do not end, and are left out: TestEvents has them.
func TestSchemathesis(t *testing.T) {
	tool := os.Getenv("SCHEMATHESIS")
	if tool == "" {
		t.Fatal("SCHEMATHESIS is not set: run make test-api-fuzz")
	}
	h := newServer(t, Settings{TokenFile: tokenFile(t, secret)}, units{"defect-of-the-engine": registry.Fail(
		registry.CodeModelNotFound, "/srv/m.gguf: no such file", "Copy it there.")})
	h.server.now, h.server.operator = time.Now, likeManager{&operators{}}
	devices := registrytest.Devices()
	devices.Taken = time.Now()
	h.reg.SetDevices(devices)
	for _, p := range registrytest.OnGPUs(registrytest.Pools()) {
		h.reg.Put(p)
		h.book.SetPool(p.ID, lease.Pool{Seats: []lease.Seat{
			{Replica: "r0", Run: "run", Slots: 1 << 20, Open: p.Ready}}}, nil)
	}
	h.listen()
	config, err := filepath.Abs(filepath.Join("testdata", "schemathesis.toml"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--config-file", config, "run", "http://" + h.tcp + "/openapi.yaml", "--workers", "2", "-H", "Authorization: Bearer " + secret, "--request-timeout", "30",
		"--exclude-path-regex", "^/v1/events$", "--continue-on-failure"}
	cmd := exec.CommandContext(t.Context(), tool, append(args, strings.Fields(os.Getenv("SCHEMATHESIS_ARGS"))...)...)
	cmd.Dir = t.TempDir()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		t.Errorf("schemathesis found failures: %v", err)
	}
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "a request failed") || strings.Contains(line, "panicked") {
			t.Errorf("%s", line)
		}
	}
}
