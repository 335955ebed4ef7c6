// Package fetch downloads one model into one directory of a cache that huggingface_hub reads too.
//
// It owns the connections, what is on disk while a file is incomplete, and the checks of what
// arrived. It must not know pools, the manager or PID 1: it has a request, and prints events.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// Failure is why a fetch failed, as its last event reports it. It is an error.
type Failure struct {
	Reason  wire.Reason
	Message string
	Hint    string
	Pause   time.Duration // that the other side asked for; 0: none
	Err     error         // the cause; nil if there is none
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Message
	}
	return f.Message + ": " + f.Err.Error()
}

func (f *Failure) Unwrap() error { return f.Err }

// Event returns the failure as an event.
func (f *Failure) Event() wire.Event {
	return wire.Event{Kind: wire.Failed, Reason: f.Reason, Message: f.Error(), Hint: f.Hint,
		RetryAfterMS: f.Pause.Milliseconds()}
}

// AsFailure returns the Failure in err, or one around it.
func AsFailure(err error) *Failure {
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled):
		return &Failure{Reason: wire.Interrupted, Message: "interrupted by a signal; what is on disk is kept"}
	}
	return &Failure{Reason: wire.Network, Message: "the fetch failed", Err: err}
}

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
