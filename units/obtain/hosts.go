package obtain

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// hostSet are the hosts that a download may connect to.
type hostSet struct {
	needed []string // the first request goes there
	seen   []string // redirects led there; they need not exist any longer
}

// mostHosts bounds those whose addresses are asked for.
const mostHosts = 64

// hosts returns the hosts of a reference, and those that files came from before. Others are added
// when a redirect names them.
func hosts(s *egress.Settings, ref modelref.Ref, seen []string) (*hostSet, error) {
	needed, err := s.HostsOf(ref)
	if err != nil {
		return nil, err
	}
	set := &hostSet{needed: needed}
	for _, host := range seen {
		if s.Allows(host) {
			set.add(host)
		}
	}
	return set, nil
}

// add adds a host, and reports whether it is new.
func (h *hostSet) add(host string) bool {
	host = strings.ToLower(host)
	if slices.Contains(h.needed, host) || slices.Contains(h.seen, host) || len(h.needed)+len(h.seen) >= mostHosts {
		return false
	}
	h.seen = append(h.seen, host)
	return true
}

// literal returns the address that a host is, if it is one.
func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return a, err == nil
}
