package obtain

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
)

// resolveWait bounds the question for the addresses of all hosts of a download.
const resolveWait = 30 * time.Second

// Nameservers returns the addresses that a unit may ask for others.
type Nameservers func() []netip.Addr

// HostNameservers returns the name servers of this host, by resolv.conf(5): without any, the local
// one.
func HostNameservers() []netip.Addr {
	text, _ := os.ReadFile("/etc/resolv.conf")
	return nameservers(string(text))
}

func nameservers(conf string) []netip.Addr {
	var all []netip.Addr
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !slices.Contains(all, a.WithZone("")) {
			all = append(all, a.WithZone(""))
		}
	}
	if len(all) == 0 {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return all
}

// pins returns the addresses of the hosts. A needed host without any ends the attempt; without one
// that was seen before, the download asks for it if it is needed again.
func (f *flight) pins(ctx context.Context, hosts *hostSet) (map[string][]string, *ended) {
	pins, why := f.addresses(ctx, slices.Concat(hosts.needed, hosts.seen))
	if why != "" && len(hosts.seen) > 0 {
		hosts.seen = nil
		pins, why = f.addresses(ctx, hosts.needed)
	}
	if why != "" {
		end := again("resolve", fmt.Sprintf("the host of the %s has no address: %s", egress.What(f.want.Ref), why),
			"Check /etc/resolv.conf and this host's network. It is tried again by itself.")
		return nil, &end
	}
	return pins, nil
}

// addresses returns the addresses of all hosts, or why it has not.
func (f *flight) addresses(ctx context.Context, hosts []string) (pins map[string][]string, why string) {
	pins = make(map[string][]string)
	var names []string
	for _, host := range hosts {
		host = strings.ToLower(host)
		if a, ok := literal(host); ok {
			pins[host] = []string{a.String()}
		} else {
			names = append(names, host)
		}
	}
	if len(names) == 0 {
		return pins, ""
	}
	found, why := f.resolve(ctx, names)
	for _, name := range names {
		if pins[name] = found[name]; len(pins[name]) == 0 && why == "" {
			why = "nothing was answered for " + name
		}
	}
	return pins, why
}

// resolve asks for addresses, in a unit of its own. why is what it printed where it has none.
func (f *flight) resolve(ctx context.Context, names []string) (found map[string][]string, why string) {
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	props := fetchunit.Resolve{Program: f.o.o.Program, Hosts: names, Nameservers: f.o.o.Nameservers()}.Properties()
	out, st, err := f.o.o.PID1.RunCapture(ctx, fetchunit.ResolveUnit(f.id), props, wire.MaxRequest)
	if err != nil {
		return nil, err.Error()
	}
	var d wire.Decoder
	for _, e := range d.Feed(append(out, '\n')) {
		switch e.Kind {
		case wire.Hosts:
			return e.Hosts, ""
		case wire.Failed:
			why = e.Message
		}
	}
	if why == "" {
		why = howEnded(st)
	}
	return nil, why
}
