package machine

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dial connects into the container. A path goes through PID 1's root directory; everything else
// needs a socket that is made in the container's network namespace.
func (c *container) dial(ctx context.Context, network, address string) (net.Conn, error) {
	leader, err := c.leader()
	if err != nil {
		return nil, err
	}
	proc := "/proc/" + strconv.Itoa(leader)
	if network == "unix" && !strings.HasPrefix(address, "@") {
		return dialPath(ctx, proc+"/root", address)
	}
	if network != "unix" {
		// With a name, net.Dialer may race addresses on other threads, which are in the host's
		// namespace.
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if host == "localhost" {
			address = net.JoinHostPort("127.0.0.1", port)
		} else if net.ParseIP(host) == nil {
			return nil, fmt.Errorf("dial %s in the machine: the host must be an IP address", address)
		}
	}
	return dialInNamespace(ctx, proc+"/ns/net", network, address)
}

// dialPath connects to the unix socket at path below root; absolute symbolic links on the way stay
// below root.
func dialPath(ctx context.Context, root, path string) (net.Conn, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(int(dir.Fd()), path, &how)
	if err != nil {
		return nil, &os.PathError{Op: "dial in the machine", Path: path, Err: err}
	}
	socket := os.NewFile(uintptr(fd), path)
	defer socket.Close()
	var d net.Dialer
	return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
}

// dialInNamespace dials on a thread that has moved to the network namespace; a socket stays in the
// namespace that it was made in.
func dialInNamespace(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is not unlocked, so that it ends with the goroutine and never serves another
		// from in there.
		runtime.LockOSThread()
		ns, err := os.Open(namespace)
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("enter the machine's network: %w", err)}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
