package provision

import (
	"context"
	"net"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestDocker names what the host lacks, in the order in which it is needed.
func TestDocker(t *testing.T) {
	of := pool.Pool{Provisioning: pool.Provisioning{Mode: pool.ModeContainer, Runtime: pool.RuntimeDocker}}
	socket := filepath.Join(t.TempDir(), "docker.sock")
	client, group := "", false
	pr := &Preparer{find: func(string) string { return client }, docked: &docked{
		group: func(name string) (*user.Group, error) {
			if name != pool.DockerGroup || !group {
				return nil, user.UnknownGroupError(name)
			}
			return &user.Group{Name: name}, nil
		},
		dial: func(ctx context.Context, _ string) error { return connects(ctx, socket) },
	}}
	lacks := func(want string) {
		t.Helper()
		if path, f := pr.docker(t.Context(), of); f == nil || path != "" || !strings.Contains(f.Message+f.Hint, want) {
			t.Errorf("%q, %+v; want %q", path, f, want)
		}
	}
	lacks("docker is not installed")
	client = "/usr/bin/docker"
	lacks("groupadd --system docker")
	group = true
	lacks("docker's daemon does not listen on /run/docker.sock: no such file or directory")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if path, f := pr.docker(t.Context(), of); f != nil || path != client {
		t.Errorf("%q, %v", path, f)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	lacks("connection refused") // what a stopped socket unit leaves
	of.Provisioning.Runtime = pool.RuntimeSystemd
	if path, f := (&Preparer{}).docker(t.Context(), of); f != nil || path != "" {
		t.Errorf("without docker: %q, %v", path, f)
	}
}
