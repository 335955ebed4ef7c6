package fetch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, ok := n[host]; ok {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestResolve(t *testing.T) {
	zone := names{"hub.example": {netip.MustParseAddr("::ffff:203.0.113.7"), netip.MustParseAddr("2001:db8::1")}}
	got, err := resolve(t.Context(), zone, []string{"Hub.example"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"hub.example": {"203.0.113.7", "2001:db8::1"}}, got); diff != "" {
		t.Error(diff)
	}
	_, err = resolve(t.Context(), zone, []string{"hub.example", "other.example"})
	if f := AsFailure(err); f.Reason != wire.Network || !strings.Contains(f.Error(), "other.example") || f.Hint == "" {
		t.Errorf("an unknown name: %v", err)
	}
	if got, err := Resolve(t.Context(), []string{"127.0.0.1", "::1"}); err != nil || got["::1"][0] != "::1" {
		t.Errorf("addresses are %v (%v)", got, err)
	}
}

func TestAsFailure(t *testing.T) {
	if e := AsFailure(context.Canceled).Event(); e.Reason != wire.Interrupted {
		t.Errorf("a cancelled fetch is %+v", e)
	}
	cause := errors.New("disk on fire")
	if f := AsFailure(cause); !errors.Is(f, cause) || !strings.Contains(f.Event().Message, "on fire") {
		t.Errorf("%v is %+v", cause, f)
	}
}
