package provision

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Ports assigns each replica its TCP port on the loopback. It belongs to one goroutine.
type Ports struct {
	low, high int
	holder    map[int]pool.Replica
	port      map[pool.Replica]int
	reserved  map[int]bool // configured by a pool: not assigned to others

	order func(n int) []int   // in which the n ports of the range are tried
	taken func(port int) bool // whether another process listens on it now
}

// NewPorts makes an allocator for the ports from low to high, both included. They are assigned at
// random: no other program of the host knows which one an engine will have, and takes it before.
func NewPorts(low, high int) *Ports {
	return &Ports{low: low, high: high, holder: make(map[int]pool.Replica), port: make(map[pool.Replica]int),
		order: rand.Perm, taken: func(port int) bool { return PortFree(port) != nil }}
}

// Claim assigns a replica the port want, or, if want is 0, the one it has, else one of the range
// that is neither assigned nor in use: it binds a port for a moment to find out. The error is a
// *registry.Failure.
func (p *Ports) Claim(r pool.Replica, want int) (int, error) {
	if have, ok := p.port[r]; ok && (want == 0 || want == have) {
		return have, nil
	}
	if want != 0 {
		if other, taken := p.holder[want]; taken {
			return 0, registry.Fail(registry.CodeEngineStartFailed,
				fmt.Sprintf("port %d is already assigned to %s", want, other),
				"Give one of the two pools another port; a pool without a port gets a free one. Who has which: "+
					"grep -n port /etc/pool-managerd/pools.d/*.toml")
		}
		p.take(r, want)
		return want, nil
	}
	strangers := 0
	for _, i := range p.order(p.high - p.low + 1) {
		port := p.low + i
		if _, held := p.holder[port]; held || p.reserved[port] {
			continue
		}
		if !p.taken(port) {
			p.take(r, port)
			return port, nil
		}
		strangers++
	}
	const widen = `Widen port_range in config.toml, as "21000-23999": grep -n port_range /etc/pool-managerd/config.toml`
	if strangers > 0 {
		return 0, registry.Fail(registry.CodePortInUse,
			fmt.Sprintf("every port from %d to %d is assigned to a replica or in use, %d of them by other programs",
				p.low, p.high,
				strangers), "This shows who holds them: ss -ltnp. "+widen)
	}
	return 0, registry.Fail(registry.CodeEngineStartFailed,
		fmt.Sprintf("every port from %d to %d is assigned to a replica", p.low, p.high), widen)
}

// Reserve keeps ports for the pools that configure them, and replaces the earlier reservations. A
// replica keeps the port that it has.
func (p *Ports) Reserve(ports []int) {
	p.reserved = make(map[int]bool, len(ports))
	for _, port := range ports {
		p.reserved[port] = true
	}
}

// Adopt records the port of a replica that runs already, inside the range or not.
func (p *Ports) Adopt(r pool.Replica, port int) { p.take(r, port) }

// Release frees a replica's port.
func (p *Ports) Release(r pool.Replica) {
	if port, ok := p.port[r]; ok {
		delete(p.port, r)
		if p.holder[port] == r { // another may have adopted it since
			delete(p.holder, port)
		}
	}
}

func (p *Ports) take(r pool.Replica, port int) {
	p.Release(r)
	p.port[r], p.holder[port] = port, r
}

// PortFree binds a port of the loopback for a moment. The error is a *registry.Failure that names
// the user who listens on the port, if the kernel shows it.
func PortFree(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		return l.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return registry.Fail(registry.CodePortInUse, fmt.Sprintf("port %d is in use%s", port, heldBy(port)),
			fmt.Sprintf("See who holds it with ss -ltnp 'sport = :%d'; stop that program, or give the pool another "+
				"port.", port))
	}
	return registry.Fail(registry.CodeEngineStartFailed, fmt.Sprintf("port %d cannot be used: %v", port, err),
		"Give the pool another port; these are in use: ss -ltn")
}

// heldBy names the user who listens on a port.
func heldBy(port int) string {
	users, err := listen.Users(port)
	if err != nil || len(users) == 0 {
		return ""
	}
	return fmt.Sprintf(" by a program of user ID %d", users[0])
}
