package api

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
)

// Peers looks up who has the other end of a TCP connection. Its methods are called from many
// goroutines.
type Peers interface {
	// Peer returns the owner of the socket at the other end, given both addresses of ours.
	Peer(local, remote netip.AddrPort) (sockdiag.Owner, error)
	// Engine reports whether an owner is an engine of this host.
	Engine(o sockdiag.Owner) (bool, error)
}

// account is what a connection counts for: a user of this host, or the address of another one.
type account struct {
	kind       accountKind
	uid        uint32       // of accountUser
	net        netip.Prefix // of accountAddress
	privileged bool         // places are kept for it: root, and over the unix socket the group
}

// accountKind is how the other end of a connection was identified.
type accountKind int

const (
	accountUnknown accountKind = iota // a process of this host whose user is not known
	accountUser
	accountAddress // another host
	accountOthers  // of log lines: callers that are too many to be counted one by one
)

// String is the account's name in the log.
func (a account) String() string {
	switch a.kind {
	case accountUser:
		return fmt.Sprintf("uid:%d", a.uid)
	case accountAddress:
		if a.net.IsSingleIP() {
			return a.net.Addr().String()
		}
		return a.net.String()
	case accountOthers:
		return "others"
	}
	return "unknown"
}

// addressAccount is the account of another host. One host has a whole /64 of IPv6 addresses.
func addressAccount(addr netip.Addr) account {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return account{}
	}
	return account{kind: accountAddress, net: prefix}
}

// tcpPeer is what is known of the other end of a TCP connection.
type tcpPeer struct {
	known  bool // it is a process of this host, and its user and whether it is an engine are known
	engine bool
}

// identifyTCP looks the other end of a TCP connection up. One that is on this host and not found
// has closed its end already, or the host has no such lookups: it is not trusted.
func (s *Server) identifyTCP(c net.Conn) (tcpPeer, account) {
	local, lok := c.LocalAddr().(*net.TCPAddr)
	remote, rok := c.RemoteAddr().(*net.TCPAddr)
	if !rok {
		return tcpPeer{}, account{}
	}
	unknown := addressAccount(remote.AddrPort().Addr())
	if remote.IP.IsLoopback() || lok && local.IP.Equal(remote.IP) {
		unknown = account{}
	}
	if s.peers == nil || !lok {
		return tcpPeer{}, unknown
	}
	owner, err := s.peers.Peer(local.AddrPort(), remote.AddrPort())
	if err != nil {
		return tcpPeer{}, unknown
	}
	known := account{kind: accountUser, uid: owner.UID, privileged: owner.UID == 0}
	engine, err := s.peers.Engine(owner)
	if err != nil {
		s.log.Debug("could not check whether a connection is from an engine", "identity", known.String(), "err", err)
		return tcpPeer{}, known
	}
	known.privileged = known.privileged && !engine
	return tcpPeer{known: true, engine: engine}, known
}
