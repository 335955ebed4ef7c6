package main

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// peers looks up who opens connections to the API over TCP, and whether it is an engine, or another
// program that this project runs and that reads what strangers wrote.
type peers struct {
	*sockdiag.Asker
	engines *cgroups.Members
	fetcher uint32 // the user of downloads; 0: there is none
}

// newPeers returns nil if the API has no listener on TCP. others are descriptors that PID 1 passed:
// one is a netlink socket, since the sandbox lets the manager open none.
func newPeers(listening []net.Listener, others []*os.File, log *slog.Logger) api.Peers {
	at := slices.IndexFunc(listening, func(l net.Listener) bool { return l.Addr().Network() == "tcp" })
	if at < 0 {
		return nil
	}
	address, err := netip.ParseAddrPort(listening[at].Addr().String())
	if err != nil {
		log.Warn("could not read the address of the API's listener; no caller over TCP is identified", "err", err)
		return nil
	}
	asker, err := sockdiag.Open(netlinkOf(others), address)
	if err != nil {
		log.Warn("could not ask the kernel for the control groups of callers over TCP; every caller with a dynamic "+
			"user "+
			"is treated as an engine", "err", err,
			"hint", "Run systemctl restart pool-managerd.socket, and see whether the kernel has CONFIG_INET_DIAG.")
	}
	return peers{asker, cgroups.NewMembers(cgroups.Root, ourSlices()...), userID(fetchunit.User)}
}

// ourSlices are the control groups of programs that may not call the API: of engines, and of what
// downloads for them.
func ourSlices() []string {
	return []string{path.Join("/pool.slice", pool.Slice), path.Join("/pool.slice", fetchunit.Slice)}
}

// userID returns a user's number, 0 for one that does not exist.
func userID(name string) uint32 {
	u, err := user.Lookup(name)
	if err != nil {
		return 0
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(id)
}

// netlinkOf returns the socket for NETLINK_SOCK_DIAG, nil where there is none.
func netlinkOf(files []*os.File) *os.File {
	for _, f := range files {
		family, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil || family != unix.AF_NETLINK {
			continue
		}
		protocol, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err == nil && protocol == unix.NETLINK_SOCK_DIAG {
			return f
		}
	}
	return nil
}

// Users that systemd makes for DynamicUser= (https://systemd.io/UIDS-GIDS). Each engine has one.
const (
	dynamicLow  = 61184
	dynamicHigh = 65519
)

// Engine implements api.Peers. Where the kernel does not report control groups, any program with a
// dynamic user may be an engine.
func (p peers) Engine(o sockdiag.Owner) (bool, error) {
	if o.Cgroup == 0 {
		return o.UID >= dynamicLow && o.UID <= dynamicHigh || o.UID != 0 && o.UID == p.fetcher, nil
	}
	return p.engines.Has(o.Cgroup)
}
