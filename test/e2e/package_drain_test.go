//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// packageDrains: a removal lets work finish, says so, and cuts what is left after the pool's own
// deadline; the pool is not drained when the package is installed again.
func packageDrains(t *testing.T, p packaged) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	pool, err := p.host.Pool(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := p.host.Send(ctx, "POST", "/v1/pools/a/leases", `{"holder":"e2e","ttl_ms":60000}`)
	if err != nil || lease.Status != 201 {
		t.Fatalf("%d %s, %v", lease.Status, lease.Body, err)
	}
	answered := make(chan error, 1)
	go func() {
		a, err := p.host.AtEndpoint(ctx, pool.Replicas[0].Endpoint, "POST", "/v1/completions?delay=4s", nil)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		answered <- err
	}()
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		a, err := p.host.AtEndpoint(ctx, pool.Replicas[0].Endpoint, "GET", "/slots", nil)
		if err == nil && !containsTrue(a.Body) {
			err = fmt.Errorf("no slot is busy: %s", a.Body)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	said := p.MustShell(t, "dpkg --remove pool-managerd 2>&1")
	if err := <-answered; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	for _, says := range []string{"letting the engines finish their work", "draining 1 pool; 1 lease held",
		"1 lease was still held at the drain deadline"} {
		if !strings.Contains(said, says) {
			t.Errorf("dpkg does not print %q:\n%s", says, said)
		}
	}
	p.MustRun(t, "dpkg", "--install", "/root/this.deb")
	p.answers(t)
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		pool, err := p.host.Pool(ctx, "a")
		if err == nil && !pool.Ready {
			err = fmt.Errorf("%s", pool)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
