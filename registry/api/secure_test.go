package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// certificate writes a certificate of 127.0.0.1 by that name into a directory, with its key.
func certificate(t *testing.T, dir, name string, until time.Time) Settings {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: registrytest.Start().Add(-time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secretDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := Settings{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
		TokenFile: tokenFile(t, secret)}
	for path, block := range map[string]*pem.Block{s.CertFile: {Type: "CERTIFICATE", Bytes: der},
		s.KeyFile: {Type: "PRIVATE KEY", Bytes: secretDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// reachableHost serves on every address of this host.
func reachableHost(t *testing.T, settings Settings) *host {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newServer(t, settings, units{})
	h.tcp = strings.Replace(l.Addr().String(), "0.0.0.0", "127.0.0.1", 1)
	h.run(l)
	return h
}

// overTLS is a client that shows which certificate it got. The tests' clock is not that of TLS.
func overTLS(shown *string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, VerifyConnection: func(c tls.ConnectionState) error {
			*shown = c.PeerCertificates[0].Subject.CommonName
			return nil
		}}}}
}

// TestTLS: a listener that other hosts reach speaks TLS, by the newest certificate, and nothing
// else; tokens and the limits of connections are as without it.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	far := registrytest.Start().Add(365 * 24 * time.Hour)
	h := reachableHost(t, certificate(t, dir, "first", far))
	settings := h.server.auth.Load().settings
	shown := ""
	client, url := overTLS(&shown), "https://"+h.tcp
	h.do(client, http.MethodGet, url+"/v1/pools").wantError(t, 401, "MISSING_TOKEN")
	if r := h.do(client, http.MethodGet, url+"/v1/pools", "Authorization", "Bearer "+secret); r.status != 200 ||
		shown != "first" {
		t.Errorf("%d %s, certificate %s", r.status, r.body, shown)
	}
	t.Run("not_without_it", func(t *testing.T) {
		resp, err := http.Get("http://" + h.tcp + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%d", resp.StatusCode)
		}
	})
	t.Run("not_by_an_old_version", func(t *testing.T) {
		c, err := tls.Dial("tcp", h.tcp, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
		if err == nil {
			c.Close()
			t.Error("TLS 1.1 is spoken")
		}
	})
	t.Run("a_connection_that_says_nothing_delays_no_one", func(t *testing.T) {
		for range 5 {
			c, err := net.Dial("tcp", h.tcp)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		if r := h.do(client, http.MethodGet, url+"/health"); r.status != 200 {
			t.Errorf("%d", r.status)
		}
	})
	t.Run("a_reload_replaces_it", func(t *testing.T) {
		certificate(t, dir, "second", far)
		if err := h.server.Apply(settings); err != nil {
			t.Fatal(err)
		}
		if h.do(client, http.MethodGet, url+"/health"); shown != "second" {
			t.Errorf("the certificate is %s", shown)
		}
	})
	t.Run("a_bad_one_changes_nothing", func(t *testing.T) {
		if err := os.WriteFile(settings.KeyFile, []byte("-----BEGIN X-----"), 0o600); err != nil {
			t.Fatal(err)
		}
		var f *registry.Failure
		if err := h.server.Apply(settings); !errors.As(err, &f) || f.Code != registry.CodeConfigInvalid ||
			!strings.Contains(f.Message, settings.KeyFile) {
			t.Errorf("%v", err)
		}
		if h.do(client, http.MethodGet, url+"/health"); shown != "second" {
			t.Errorf("the certificate is %s", shown)
		}
	})
	t.Run("a_reload_cannot_take_it_away", func(t *testing.T) {
		var refused *BindError
		if err := h.server.Apply(Settings{TokenFile: settings.TokenFile}); !errors.As(err, &refused) ||
			!strings.Contains(err.Error(), "tls_cert_file") {
			t.Errorf("%v", err)
		}
	})
	t.Run("one_that_ends_soon_is_reported", func(t *testing.T) {
		certificate(t, dir, "third", registrytest.Start().Add(24*time.Hour))
		if err := h.server.Apply(settings); err != nil {
			t.Fatal(err)
		}
		h.logged("expires soon", settings.CertFile)
	})
}

// TestLoopbackHasNoTLS: the certificate is for other hosts. A listener on the loopback, and the
// unix socket, are as they were.
func TestLoopbackHasNoTLS(t *testing.T) {
	h := serve(t, certificate(t, t.TempDir(), "a", registrytest.Start().Add(365*24*time.Hour)), units{})
	if r := h.getTCP("/health"); r.status != 200 {
		t.Errorf("TCP: %d", r.status)
	}
	if r := h.get("/health"); r.status != 200 {
		t.Errorf("the unix socket: %d", r.status)
	}
}
