package gate

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// or returns h, or where nothing answers, where the engine listens instead. At a verdict, the
// engine's other ports are asked too: before it, a request could disturb a load.
func (h heard) or(at endpoint, uid int, verdict bool) heard {
	if h.answer != Silent || h.what != exit.Nothing || h.text != "" {
		return h
	}
	return at.elsewhere(uid, verdict)
}

// elsewhere explains an engine that does not listen where it is asked by where it does. Sockets for
// its own processes explain nothing: PyTorch, NCCL and ZeroMQ make some while an engine loads.
func (e endpoint) elsewhere(uid int, verdict bool) heard {
	addresses, _ := listen.Of(uid)   // what cannot be read explains nothing
	sockets, _ := listen.UnixOf(uid) // likewise
	at := e.forClients(addresses, verdict)
	names := slices.DeleteFunc(sockets, madeUp().MatchString)
	if len(at)+len(names) == 0 {
		return heard{}
	}
	return heard{what: exit.Elsewhere,
		text: "the engine listens on " + places(at, names) + ", not on " + e.place()}
}

// forClients leaves out the addresses that an engine has for its own processes: those of ports that
// the kernel chose, and at a verdict those that do not answer as a server does.
func (e endpoint) forClients(addresses []netip.AddrPort, verdict bool) (at []netip.AddrPort) {
	lowest, highest := chosenByKernel()
	asked := 0
	for _, a := range addresses {
		port := int(a.Port())
		named := port == e.port || port < lowest || port > highest
		if loopback, ok := byLoopback(a); ok && verdict && asked < mostAsked {
			asked++
			named = serves(loopback, named)
		}
		if named {
			at = append(at, a)
		}
	}
	return at
}

// mostAsked is how many ports are asked at a verdict.
const mostAsked = 8

// madeUp matches unix sockets that a program made for its own processes: Python's multiprocessing,
// PyTorch's memory manager, ZeroMQ of vLLM and SGLang (a UUID), CUDA and NCCL.
var madeUp = pattern.Lazy(`/pymp-|/torch[-_]|^@(?:cuda|/tmp/nccl|nccl|torch|ray)|` +
	`[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|^/(?:var/)?tmp/(?:tmp[a-z0-9_]{8}|ray|nccl)`)

// chosenByKernel is the range of ports that the kernel gives to sockets that name none (ip(7)).
func chosenByKernel() (lowest, highest int) {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range") // as an empty one
	if _, err := fmt.Sscan(string(text), &lowest, &highest); err != nil {
		return 32768, 60999 // the kernel's default
	}
	return lowest, highest
}

// byLoopback returns the address by which a socket is reached over the loopback.
func byLoopback(a netip.AddrPort) (at netip.AddrPort, ok bool) {
	switch addr := a.Addr(); {
	case addr.IsLoopback():
		return a, true
	case addr == netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port()), true
	case addr.IsUnspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()), true
	}
	return at, false
}

// serves reports whether a port answers as a server for clients does: in HTTP, in TLS, or with the
// first frame of HTTP/2, which gRPC uses. mute is the result for one that does not answer at all.
func serves(at netip.AddrPort, mute bool) bool {
	const patience = time.Second
	conn, err := net.DialTimeout("tcp", at.String(), patience)
	if err != nil {
		return mute
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(patience)) != nil {
		return mute
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return false
	}
	head := make([]byte, 5)
	if n, err := io.ReadFull(conn, head); err != nil {
		return mute && n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
	}
	return string(head) == "HTTP/" || tlsRecord(head) || head[0] == 0 && head[3] == frameSettings
}

// places are at most four addresses and sockets in words.
func places(at []netip.AddrPort, sockets []string) string {
	const most = 4
	var names []string
	for _, address := range at {
		names = append(names, address.String())
	}
	for _, name := range sockets {
		names = append(names, "the unix socket "+strconv.QuoteToASCII(name))
	}
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// place is where the engine should listen, in words.
func (e endpoint) place() string {
	if e.unix != "" {
		return e.unix
	}
	return e.name()
}
