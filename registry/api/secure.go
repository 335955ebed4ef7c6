package api

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// expiryWarning is how long before a certificate's end each reload warns of it.
const expiryWarning = 14 * 24 * time.Hour

// BindError means that a listener is reachable from other hosts without what that needs.
type BindError struct {
	addr    string // empty: a listener that is open already
	missing string
}

// Error carries the code 40301 of the contract.
func (e *BindError) Error() string {
	where := "a listener on a non-loopback address"
	if e.addr != "" {
		where = "listening on " + e.addr
	}
	return "40301 BIND_REFUSED: " + where + " needs " + e.missing + " in config.toml, or listen on 127.0.0.1 only"
}

// missing returns what a listener that other hosts reach needs and does not have, "": nothing.
func (g *gate) missing() string {
	switch {
	case len(g.tokens) == 0:
		return "a token: set auth_token_file"
	case g.cert == nil && !g.settings.InsecurePublic:
		return "TLS, since tokens would be readable on the network: set tls_cert_file and tls_key_file, or " +
			"insecure_public = true where another program encrypts,"
	}
	return ""
}

// reachable reports whether a listener is reachable from other hosts.
func reachable(l net.Listener) bool {
	addr, ok := l.Addr().(*net.TCPAddr)
	return ok && !addr.IP.IsLoopback()
}

// admit refuses listeners that other hosts can reach without what that needs, and records that
// there are some.
func (s *Server) admit(listeners []net.Listener) error {
	for _, l := range listeners {
		if !reachable(l) {
			continue
		}
		if missing := s.auth.Load().missing(); missing != "" {
			return &BindError{addr: l.Addr().String(), missing: missing}
		}
		s.exposed.Store(true)
	}
	return nil
}

// readCertificate reads a certificate with its chain, and its key.
func readCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil { // it names a path, and nothing of the key
		return nil, registry.Fail(registry.CodeConfigInvalid,
			fmt.Sprintf("tls_cert_file %s and tls_key_file %s cannot be used: %v", certFile, keyFile, err),
			"Write the certificate, with those that signed it behind it, and its unencrypted key as PEM into files "+
				"that root may read.")
	}
	return &cert, nil
}

// warnOfExpiry logs that a certificate expires soon, or has expired.
func (s *Server) warnOfExpiry(file string, cert *tls.Certificate) {
	if cert.Leaf == nil || s.now().Add(expiryWarning).Before(cert.Leaf.NotAfter) {
		return
	}
	s.log.Warn("the certificate of the API expires soon, or has expired; replace it, then reload", "file", file,
		"not_after", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// secured is a listener that other hosts reach: its connections are encrypted, unless
// insecure_public is set and there is no certificate.
type secured struct {
	net.Listener
	server *Server
}

// secure returns a listener as it is served.
func (s *Server) secure(l *limited) net.Listener {
	if reachable(l) {
		return secured{l, s}
	}
	return l
}

// Accept returns a connection whose handshake is done when it is first read.
func (l secured) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	cert := l.server.auth.Load().cert
	if cert == nil {
		return c, nil
	}
	return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}}), nil
}
