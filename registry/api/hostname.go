package api

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// misdirected returns the refusal of a request over TCP that was sent to a name which is none of
// this server's. A web page whose own name was made to resolve to this host has that name in Host
// and as its origin (DNS rebinding), and is refused by nothing else. A right token is enough, since
// such a page has none; so is an address, since only a name can be made to resolve elsewhere.
func (s *Server) misdirected(r *http.Request, from *connection, c *caller) *Error {
	if from.local || c.kind == callerToken || c.kind == callerEngine || s.auth.Load().answersTo(r.Host) {
		return nil
	}
	return forbidden(fmt.Sprintf("the request was sent to the host name %.80q, which is not one of this server",
		r.Host),
		"Use http://localhost or an address, send a token, or add the name to host_names in config.toml.")
}

// answersTo reports whether a Host header names this server. Without one no browser is the sender:
// checks of load balancers speak HTTP/1.0.
func (g *gate) answersTo(host string) bool {
	if host == "" {
		return true
	}
	name := hostName(host)
	if loopbackName(name) || slices.Contains(g.settings.HostNames, name) {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	if name != "" && name == g.machine {
		return true
	}
	return name != "" && g.cert != nil && g.cert.Leaf != nil && g.cert.Leaf.VerifyHostname(name) == nil
}

// proxyHeaders are the headers of requests that came through a proxy.
var proxyHeaders = [...]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"}

// proxied reports whether a request came through a proxy, by its own word: a page of this server's
// origin can send these headers too.
func proxied(r *http.Request) bool {
	for _, h := range proxyHeaders {
		if r.Header.Get(h) != "" {
			return true
		}
	}
	return false
}

// fromThisHost reports whether a program on this host sent the request on its own behalf. A name in
// Host that is not configured means that a web page made a local browser send it (DNS
// rebinding).
func (g *gate) fromThisHost(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return false
	}
	if proxied(r) {
		return g.settings.TrustProxyAuth && g.answersTo(r.Host)
	}
	name := hostName(r.Host)
	return loopbackName(name) || slices.Contains(g.settings.HostNames, name)
}

// hostName is the name or address of a Host header, in small letters, without port and brackets.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

func loopbackName(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761 6.3
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}
