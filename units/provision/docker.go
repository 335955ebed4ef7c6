package provision

import (
	"context"
	"errors"
	"net"
	"os/user"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// docker returns the path of docker's client, if docker is to run the pool's engine, and what it
// lacks on this host. The daemon is asked nothing here: the engine's unit does that.
func (pr *Preparer) docker(ctx context.Context, p pool.Pool) (string, *registry.Failure) {
	if p.Provisioning.Runtime != pool.RuntimeDocker {
		return "", nil
	}
	client := pr.program("docker")
	if client == "" {
		return "", registry.Fail(registry.CodeProvisionFailed,
			`docker is not installed, and [provisioning] runtime is "docker"`, "Install it: apt-get install docker.io docker-cli"+instead)
	}
	lookup, dial := user.LookupGroup, connects
	if pr.docked != nil {
		lookup, dial = pr.docked.group, pr.docked.dial
	}
	if _, err := lookup(pool.DockerGroup); err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed,
			"the group "+pool.DockerGroup+", which may connect to docker's daemon, does not exist",
			"Make it, and restart docker: groupadd --system docker && "+
				"systemctl restart docker.socket docker.service"+instead)
	}
	if err := dial(ctx, pool.DockerSocket); err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed,
			"docker's daemon does not listen on "+pool.DockerSocket+": "+err.Error(),
			"Start it: systemctl enable --now docker.socket docker.service"+instead)
	}
	return client, nil
}

// dialWithin is how long docker may take to accept a connection, which PID 1 does for it.
const dialWithin = 2 * time.Second

// connects reports why no program listens on a socket. It says nothing to the one that does.
func connects(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return conn.Close()
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno // the rest is the path
	}
	return err
}
