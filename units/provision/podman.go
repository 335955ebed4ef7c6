package provision

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// rangesUser is whose user ids podman gives to containers with --userns=auto, and mostIDs how many
// an engine takes (units/render).
const (
	rangesUser = "containers"
	mostIDs    = 1024
)

// instead is what every hint ends with.
const instead = `, or set runtime = "systemd" in [provisioning], which needs no container engine.`

// podman returns the path of podman, if it is to run the pool's engine. What it lacks on this host
// is a *registry.Failure; any other error is that of the context.
func (pr *Preparer) podman(ctx context.Context, p pool.Pool) (string, error) {
	if p.Provisioning.Runtime != pool.RuntimePodman {
		return "", nil
	}
	program := pr.program("podman")
	for _, name := range []string{"podman", "crun"} {
		if pr.program(name) == "" {
			return "", registry.Fail(registry.CodeProvisionFailed,
				name+` is not installed, and [provisioning] runtime is "podman"`, "Install both: apt-get install podman crun"+instead)
		}
	}
	if f, err := pr.tooOld(ctx, program); f != nil {
		return "", f
	} else if err != nil {
		return "", err
	}
	for _, name := range []string{"subuid", "subgid"} {
		if f := ranges(filepath.Join(pr.etc(), name)); f != nil {
			return "", f
		}
	}
	if pr.Etc != "" {
		return program, nil
	}
	if _, err := user.Lookup(rangesUser); err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed,
			"the user "+rangesUser+", for whose user ids podman looks, does not exist",
			"Make it: useradd --system --no-create-home --shell /usr/sbin/nologin containers"+instead)
	}
	return program, nil
}

// program finds a program of the host; empty: it is not there.
func (pr *Preparer) program(name string) string {
	if pr.find != nil {
		return pr.find(name)
	}
	return binaries.Find(name)
}

// ranges checks that podman has user ids for an engine.
func ranges(path string) *registry.Failure {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		if idsOf(f, rangesUser) >= mostIDs {
			return nil
		}
	}
	return registry.Fail(registry.CodeProvisionFailed,
		"podman has no user ids for an engine: "+path+" has no range of "+rangesUser,
		// The range that podman-run(1) proposes. The user must exist where podman reads the files
		// by libsubid, as Debian's does.
		"Give it some: useradd --system --no-create-home --shell /usr/sbin/nologin containers; "+
			"usermod --add-subuids 2147483647-4294967294 --add-subgids 2147483647-4294967294 containers"+instead)
}

// etc is the directory with subuid and subgid.
func (pr *Preparer) etc() string {
	if pr.Etc != "" {
		return pr.Etc
	}
	return "/etc"
}

// idsOf counts the ids that a file as subuid(5) gives to a user.
func idsOf(r io.Reader, name string) (count uint64) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 || fields[0] != name {
			continue
		}
		if n, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			count += n
		}
	}
	return count
}
