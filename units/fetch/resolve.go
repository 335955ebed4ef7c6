package fetch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// resolveTimeout bounds one look-up: glibc's resolver tries for 5 s twice (resolv.conf(5)).
const resolveTimeout = 10 * time.Second

// lookup finds the addresses of a host; the resolver of the standard library has this form.
type lookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Resolve returns the addresses of hosts, as a request pins them. The error is a *Failure.
func Resolve(ctx context.Context, hosts []string) (map[string][]string, error) {
	return resolve(ctx, &net.Resolver{PreferGo: true}, hosts)
}

func resolve(ctx context.Context, with lookup, hosts []string) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found := make(map[string][]string)
	for _, host := range hosts {
		host = strings.ToLower(host)
		addresses, err := with.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, &Failure{Reason: wire.Network, Message: fmt.Sprintf("could not resolve %s", host), Err: err,
				Hint: "Check the name, and the nameservers of /etc/resolv.conf."}
		}
		for _, a := range addresses {
			found[host] = append(found[host], a.Unmap().WithZone("").String())
		}
	}
	return found, nil
}
