// Package etcd runs real members of etcd on the loopback, for tests: one or a cluster, which can be
// killed, stopped, and started again with what they had stored.
package etcd

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Cluster are the members of one etcd.
type Cluster struct {
	t       testing.TB
	program string
	dir     string
	members []*member
	options Options
}

type member struct {
	name         string
	client, peer string // addresses
	apart        string // a process in its network, as a number; empty: it has the test's
	run          *exec.Cmd
	log          bytes.Buffer
}

// Options of a cluster.
type Options struct {
	Members int           // 0: one
	Args    []string      // more options of etcd
	Scheme  string        // of what clients use; empty: http
	Apart   bool          // each member has a network of its own, which Cut takes off; see OwnNetwork
	Sync    time.Duration // how much longer each write to the disk takes; 0: nothing is written through
}

// Start runs a cluster until the test ends. Without etcd on this host the test is skipped.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("no etcd on this host (Debian: etcd-server): nothing is published for real here")
	}
	if o.Sync > 0 {
		if _, err := exec.LookPath("strace"); err != nil {
			t.Skip("no strace on this host: a slow disk is not tried here")
		}
	}
	if o.Scheme == "" {
		o.Scheme = "http"
	}
	c := &Cluster{t: t, program: program, dir: t.TempDir(), options: o}
	if o.Apart {
		c.connect(max(o.Members, 1))
	} else {
		for i := range max(o.Members, 1) {
			c.members = append(c.members, &member{name: fmt.Sprintf("m%d", i), client: address(t, o.Scheme),
				peer: address(t, "http")})
		}
	}
	for i := range c.members {
		c.Run(i)
	}
	t.Cleanup(func() {
		for i := range c.members {
			c.Kill(i)
		}
		if t.Failed() {
			for _, m := range c.members {
				log := m.log.Bytes()
				t.Logf("last log lines of etcd %s:\n%s", m.name, log[max(0, len(log)-2000):])
			}
		}
	})
	return c
}

// address is a free one on the loopback. It has an IP address of its own, so that no connection of
// another program takes the port while the member does not run; certificates are for 127.0.0.1.
func address(t testing.TB, scheme string) string {
	ip := "127.0.0.1"
	if scheme == "http" {
		ip = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	}
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Endpoints are the URLs for clients.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, c.options.Scheme+"://"+m.client)
	}
	return all
}

// Run starts a member that does not run, with what it had stored.
func (c *Cluster) Run(i int) {
	c.t.Helper()
	m := c.members[i]
	var peers []string
	for _, p := range c.members {
		peers = append(peers, p.name+"=http://"+p.peer)
	}
	args := []string{"--name", m.name, "--data-dir", filepath.Join(c.dir, m.name),
		"--listen-client-urls", c.options.Scheme + "://" + m.client, "--advertise-client-urls", c.options.Scheme + "://" + m.client,
		"--listen-peer-urls", "http://" + m.peer, "--initial-advertise-peer-urls", "http://" + m.peer,
		"--initial-cluster", strings.Join(peers, ","), "--logger", "zap", "--log-level", "warn",
		"--unsafe-no-fsync"}
	if c.options.Sync > 0 {
		args = args[:len(args)-1]
	}
	command := append([]string{c.program}, append(without(c.program, args), c.options.Args...)...)
	if c.options.Sync > 0 { // -D: the process is etcd, and strace goes with it
		command = append([]string{"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e",
			fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", c.options.Sync.Microseconds())}, command...)
	}
	if m.apart != "" {
		command = append([]string{"nsenter", "--net", "--target", m.apart}, command...)
	}
	m.run = exec.Command(command[0], command[1:]...)
	m.run.Stdout, m.run.Stderr = &m.log, &m.log
	m.run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.run.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=")
	if err := m.run.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// without leaves options out that a version of etcd lacks.
func without(program string, args []string) []string {
	help, _ := exec.Command(program, "--help").CombinedOutput()
	var kept []string
	for _, a := range args {
		if a != "--unsafe-no-fsync" || bytes.Contains(help, []byte("unsafe-no-fsync")) {
			kept = append(kept, a)
		}
	}
	return kept
}

// Kill ends a member as a loss of power does.
func (c *Cluster) Kill(i int) {
	if m := c.members[i]; m.run != nil {
		_ = m.run.Process.Kill() // it may have ended
		_ = m.run.Wait()
		m.run = nil
	}
}

// Stop has a member hang until Continue.
func (c *Cluster) Stop(i int) { c.signal(i, syscall.SIGSTOP) }

// Continue ends a hang.
func (c *Cluster) Continue(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, s syscall.Signal) {
	c.t.Helper()
	if err := c.members[i].run.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// CPU is the processor time that a member's present process has used.
func (c *Cluster) CPU(i int) time.Duration {
	c.t.Helper()
	return CPUOf(c.t, c.members[i].run.Process.Pid)
}

// CPUOf is the processor time that a process has used.
func CPUOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime and stime, proc(5)
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * (time.Second / 100)
}

// Client is a client of this cluster, and returns when that answers.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop(),
		DialTimeout: 3 * time.Second})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		_, err := client.Get(ctx, "/")
		cancel()
		if err == nil {
			return client
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("etcd does not answer: %v\n%s", err, c.members[0].log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Version is that of the first member.
func (c *Cluster) Version(client *clientv3.Client) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	s, err := client.Status(ctx, c.Endpoints()[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Version
}

// Settled reports whether each member answers and knows a leader.
func (c *Cluster) Settled(client *clientv3.Client) bool {
	for _, m := range c.members {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		s, err := client.Status(ctx, c.options.Scheme+"://"+m.client)
		cancel()
		if err != nil || s.Leader == 0 {
			return false
		}
	}
	return true
}

// Leader is the index of the member that leads.
func (c *Cluster) Leader(client *clientv3.Client) int {
	c.t.Helper()
	for i, m := range c.members {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		s, err := client.Status(ctx, c.options.Scheme+"://"+m.client)
		cancel()
		if err == nil && s.Leader == s.Header.MemberId {
			return i
		}
	}
	c.t.Fatal("no member leads")
	return -1
}
