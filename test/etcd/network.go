package etcd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ownNetwork is in the environment of a test's second process.
const ownNetwork = "POOL_TEST_OWN_NETWORK"

// Where a test runs, as OwnNetwork found it.
type Where int

// The three.
const (
	Elsewhere Where = iota // it ran, in a process of its own: there is nothing to do here
	Inside                 // in that process: links may be made, and clusters be Apart
	Without                // no network can be made here
)

// OwnNetwork has a test run in a process with a network of its own, which takes all links with it
// when it ends.
func OwnNetwork(t *testing.T) Where {
	t.Helper()
	if os.Getenv(ownNetwork) != "" {
		return Inside
	}
	for _, program := range []string{"etcd", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return Without
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0")
	cmd.Env = append(os.Environ(), ownNetwork+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) {
		return Without // only root may
	}
	if err == nil {
		err = cmd.Wait()
	}
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Errorf("in a network of its own: %v", err)
	}
	return Elsewhere
}

// The two networks of members that are apart.
const (
	clients = "clients"
	peers   = "peers"
)

// connect makes members, each with an interface in both networks. The test is in that of clients.
func (c *Cluster) connect(members int) {
	c.t.Helper()
	c.ip("link", "set", "lo", "up")
	for _, name := range []string{clients, peers} {
		c.ip("link", "add", name, "type", "bridge")
		c.ip("link", "set", name, "up")
	}
	c.ip("address", "add", "10.0.1.254/24", "dev", clients)
	for i := range members {
		m := &member{name: fmt.Sprintf("m%d", i), client: fmt.Sprintf("10.0.1.%d:2379", i+1),
			peer: fmt.Sprintf("10.0.2.%d:2380", i+1)}
		owner := exec.Command("sleep", "infinity")
		owner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := owner.Start(); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() {
			_ = owner.Process.Kill() // it never ends by itself
			_ = owner.Wait()
		})
		m.apart = strconv.Itoa(owner.Process.Pid)
		for n, name := range []string{clients, peers} {
			c.ip("link", "add", link(name, i), "type", "veth", "peer", "name", name, "netns", m.apart)
			c.ip("link", "set", link(name, i), "master", name, "up")
			c.run("nsenter", "--net", "--target", m.apart, "ip", "address", "add",
				fmt.Sprintf("10.0.%d.%d/24", n+1, i+1), "dev", name)
			c.run("nsenter", "--net", "--target", m.apart, "ip", "link", "set", name, "up")
		}
		c.run("nsenter", "--net", "--target", m.apart, "ip", "link", "set", "lo", "up")
		c.members = append(c.members, m)
	}
}

// link is the name of a member's link in a network, at the network's side.
func link(network string, i int) string { return network + strconv.Itoa(i) }

// CutPeers takes a member off the other members: nothing arrives, and no connection is closed.
func (c *Cluster) CutPeers(i int) { c.ip("link", "set", link(peers, i), "nomaster") }

// Cut takes a member off the other members and its clients.
func (c *Cluster) Cut(i int) {
	c.CutPeers(i)
	c.ip("link", "set", link(clients, i), "nomaster")
}

// Rejoin ends CutPeers and Cut.
func (c *Cluster) Rejoin(i int) {
	for _, network := range []string{clients, peers} {
		c.ip("link", "set", link(network, i), "master", network)
	}
}

func (c *Cluster) ip(args ...string) {
	c.t.Helper()
	c.run("ip", args...)
}

func (c *Cluster) run(program string, args ...string) {
	c.t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}
