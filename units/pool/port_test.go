package pool

import (
	"strings"
	"testing"
)

// TestPortUnits: the names of a port's units say whose port it is, and no other name does.
func TestPortUnits(t *testing.T) {
	for _, c := range []struct {
		port   Port
		socket string
	}{
		{Port{Replica{Pool: "tiny"}, 21000}, "pool-port@tiny.r0.21000.socket"},
		{Port{Replica{Pool: "a.b-c_d", Index: 12, Side: 1}, 1}, `pool-port@a.b\x2dc_d.r12b.1.socket`},
		{Port{Replica{Pool: strings.Repeat("a", 63)}, 65535}, "pool-port@" + strings.Repeat("a", 63) + ".r0.65535.socket"},
	} {
		if got := c.port.Socket(); got != c.socket {
			t.Errorf("Socket() = %s, want %s", got, c.socket)
		}
		if got, ok := ParsePort(c.socket); !ok || got != c.port {
			t.Errorf("ParsePort(%s) = %v, %t", c.socket, got, ok)
		}
		if got := c.port.Service(); got != strings.TrimSuffix(c.socket, ".socket")+".service" {
			t.Errorf("Service() = %s", got)
		}
	}
	for _, unit := range []string{"", "pool-port@.socket", "pool-port@tiny.r0.socket", "pool-port@tiny.r0.0.socket",
		"pool-port@tiny.r0.65536.socket", "pool-port@tiny.r0.021000.socket", "pool-port@tiny.r0.21000.service",
		"pool-engine@tiny.r0.21000.socket", `pool-port@tiny.r0.21\x3000.socket`, "pool-port@-.r0.1.socket",
		"pool-port@tiny.r0.+21000.socket"} {
		if got, ok := ParsePort(unit); ok {
			t.Errorf("ParsePort(%q) = %v", unit, got)
		}
	}
}
