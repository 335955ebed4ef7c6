package render

import (
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// Address families of socket(2).
const (
	afInet  = 2
	afInet6 = 10
)

// withoutNetwork reports whether the replica runs without a network. The pool's file decides; where
// it has nothing, the engine is one that is known to serve on a unix socket, and the host has the
// forwarder. A probe that only connects would always succeed at a port that PID 1 holds.
func withoutNetwork(in Input) bool {
	if in.Prepared.ByPodman() { // the owner of its socket would not be the forwarder's user
		return false
	}
	switch in.Pool.Sandbox.Network {
	case pool.NetworkNone:
		return true
	case pool.NetworkLoopback:
		return false
	}
	return in.Host.Forwarder != "" && in.Pool.Health.Probe != pool.ProbeTCP &&
		in.Adapter.UnixSocket(in.Pool, in.Prepared.Version) == engine.SocketTested
}

// engineSocket is where an engine without a network listens; "": it has one. It is at most 98 bytes
// long, of the 107 that the address of a unix socket takes (unix(7)).
func engineSocket(in Input) string {
	if !withoutNetwork(in) {
		return ""
	}
	return runtimeDirectory(in) + "/engine.sock"
}

// checkForwarder fails a pool without a network on a host that cannot forward its port.
func checkForwarder(in Input) error {
	if !withoutNetwork(in) || in.Host.Forwarder != "" {
		return nil
	}
	return registry.Fail(registry.CodeProvisionFailed,
		"[sandbox] network is none, and this host has no systemd-socket-proxyd to forward the pool's port",
		"Install systemd's package that has it, or set network = \"loopback\" in [sandbox].")
}

// networkLines are what the engine may connect to.
func networkLines(in Input, why allowance) []Line {
	if withoutNetwork(in) {
		return withoutNetworkLines(why)
	}
	return loopbackLines(why)
}

// withoutNetworkLines leave the engine a loopback of its own, and only if its processes use one to
// reach each other.
func withoutNetworkLines(why allowance) []Line {
	const own = "its processes reach each other by the loopback of its own network"
	families := []string{"AF_UNIX"}
	local := why[relax.HostAddress] != ""
	if local {
		families = append(families, "AF_INET", "AF_INET6")
	}
	lines := []Line{
		yes("PrivateNetwork", "a network of its own, which leads nowhere: the engine serves on a unix socket, and "+
			"reaches no port and no abstract socket of the host"),
		addressFamilies(why, families),
		denyAddresses("nothing beyond its own network, if that had a way out"),
	}
	if local {
		lines = append(lines, loopbackAddresses(own, own)...)
	}
	return lines
}

// loopbackLines restrict the engine to two addresses of the loopback. A whole 127.0.0.0/8 would
// include 127.0.0.53, where systemd-resolved sends a question out to any name server.
// SocketBindAllow= would also restrict it to its port, but set over D-Bus it is lost at the next
// daemon-reload on systemd 249 to 253.
func loopbackLines(why allowance) []Line {
	const loopback = "only the loopback: the engine cannot send prompts or weights to other hosts"
	lines := []Line{addressFamilies(why, []string{"AF_UNIX", "AF_INET", "AF_INET6"}), denyAddresses(loopback)}
	lines = append(lines, loopbackAddresses("this address of the loopback and ::1 alone: local resolvers listen on "+
		"others (127.0.0.53), and ask any name server", loopback)...)
	if r := why[relax.HostAddress]; r != "" {
		lines = append(lines, allowAddress("127.0.1.1/32", afInet, []byte{127, 0, 1, 1}, r))
	}
	return lines
}

func addressFamilies(why allowance, families []string) Line {
	reason := "no packet, netlink or exotic socket"
	if r := why[relax.Netlink]; r != "" {
		families, reason = append(families, "AF_NETLINK"), "no packet or exotic socket; AF_NETLINK is "+r
	}
	return filter("RestrictAddressFamilies", true, families, reason)
}

func denyAddresses(why string) Line {
	return Line{Section: sectionService, Key: "IPAddressDeny", Text: "any", Why: why,
		Property: systemd.Property{Name: "IPAddressDeny", Value: []systemd.AddressPrefix{
			{Family: afInet, Address: make([]byte, 4), Prefix: 0},
			{Family: afInet6, Address: make([]byte, 16), Prefix: 0},
		}}}
}

func loopbackAddresses(why, why6 string) []Line {
	return []Line{
		allowAddress(Loopback+"/32", afInet, []byte{127, 0, 0, 1}, why),
		allowAddress("::1/128", afInet6, append(make([]byte, 15), 1), why6),
	}
}

// allowAddress returns a row that allows one address.
func allowAddress(text string, family int32, address []byte, why string) Line {
	return Line{Section: sectionService, Key: "IPAddressAllow", Text: text, Why: why,
		Property: systemd.Property{Name: "IPAddressAllow", Value: []systemd.AddressPrefix{
			{Family: family, Address: address, Prefix: uint32(8 * len(address))},
		}}}
}

// socketDirectoryLines give an engine without a network the directory that its socket is in.
func socketDirectoryLines(in Input) []Line {
	if !withoutNetwork(in) {
		return nil
	}
	const why = "the directory of its socket, new at each start: an engine fails where a former run left one"
	return []Line{
		list("RuntimeDirectory", directoryName(in), why),
		mode("RuntimeDirectoryMode", 0o700, "no other user connects to the engine"),
	}
}

// socketBinds show that directory.
func socketBinds(in Input) []Line {
	if !withoutNetwork(in) {
		return nil
	}
	path := runtimeDirectory(in)
	return []Line{{Section: sectionService, Key: "BindPaths", Text: path,
		Why: "the directory of its socket in the engine's empty /run",
		Property: systemd.Property{Name: "BindPaths",
			Value: []systemd.BindMount{{Source: path, Destination: path, Flags: mSRec}}}}}
}
