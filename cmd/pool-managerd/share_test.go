package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/fetch"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// sharing is a manager's API with TLS, a token and a cache that is shared. It returns its URL, and
// the file of the certificate.
func sharing(t *testing.T, cache, token string) (url, ca string) {
	t.Helper()
	lent := httptest.NewTLSServer(nil) // for its certificate
	defer lent.Close()
	key, err := x509.MarshalPKCS8PrivateKey(lent.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	encode := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	ca = write("cert", encode("CERTIFICATE", lent.TLS.Certificates[0].Certificate[0]))
	var inForce atomic.Pointer[config.Host]
	inForce.Store(&config.Host{Provisioning: config.Provisioning{CacheDir: cache, Share: true}})
	reg := registry.New()
	server, err := api.New(api.Options{Registry: reg, Backend: backend{}, Version: "1",
		Library: shelf{nil, newCacheList(&inForce, "", reg)}, Log: slog.New(slog.DiscardHandler),
		Settings: api.Settings{TokenFile: write("token", []byte(token+"\n")), CertFile: ca,
			KeyFile: write("key", encode("PRIVATE KEY", key))}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "0.0.0.0:0") // TLS is for listeners that other hosts reach
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "https://" + net.JoinHostPort("127.0.0.1", port), ca
}

// TestModelFromAnotherHost: a file comes from the API of a manager that shares its cache, with its
// token and certificate, and the source sends nothing of it. Without the token, or where the file
// was changed on that host's disk, it comes from the source.
func TestModelFromAnotherHost(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	weights := hub.Data(1, 5<<20+1)
	sum := sha256.Sum256(weights)
	for _, c := range []struct {
		name   string
		token  string
		damage bool
		peer   bool // the bytes came from there
		log    string
	}{
		{"shared", token, false, true, "came from 127.0.0.1"},
		{"wrong_token", token + "0", false, false, "refuses access (401)"},
		{"damaged", token, true, false, "has another digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, err := hub.New(&hub.Repo{Name: "org/model", Files: []hub.File{hub.Bytes("a.gguf", weights, true)}})
			if err != nil {
				t.Fatal(err)
			}
			for to, h := range map[*string]*httptest.Server{&source.Endpoint: httptest.NewServer(source.Handler()),
				&source.CDN: httptest.NewServer(source.CDNHandler())} {
				*to = h.URL
				t.Cleanup(h.Close)
			}
			there, here := t.TempDir(), t.TempDir()
			content := bytes.Clone(weights)
			if c.damage {
				content[1<<20] ^= 1
			}
			blobs := filepath.Join(there, "models--org--model", "blobs")
			if err := errors.Join(os.MkdirAll(blobs, 0o755),
				os.WriteFile(filepath.Join(blobs, hex.EncodeToString(sum[:])), content, 0o644)); err != nil {
				t.Fatal(err)
			}
			url, ca := sharing(t, there, token)
			var result wire.Event
			var text strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = fetch.Run(ctx, wire.Request{Version: wire.Version, Ref: "hf:org/model/a.gguf", CacheDir: here,
				Directory: "models--org--model", Endpoint: source.Endpoint, Peers: []string{url},
				Hosts: map[string][]string{"127.0.0.1": {"127.0.0.1"}}}, fetch.Options{Log: log.New(&text, "", 0),
				Secrets: fetch.Secrets{PeersToken: c.token, PeersCA: ca}, Print: func(e wire.Event) { result = e }})
			if err != nil || result.Kind != wire.Result {
				t.Fatalf("%+v, %v\n%s", result, err, text.String())
			}
			got, err := os.ReadFile(result.Path)
			if err != nil || !bytes.Equal(got, weights) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if want := int64(len(weights)); c.peer && result.PeerBytes != want || !c.peer && result.PeerBytes != 0 ||
				!strings.Contains(text.String(), c.log) {
				t.Errorf("%d bytes came from the other host\n%s", result.PeerBytes, text.String())
			}
			sent := 0
			for _, asked := range source.Requests() {
				if strings.HasPrefix(asked, "GET") && strings.Contains(asked, hex.EncodeToString(sum[:])) {
					sent++
				}
			}
			if c.peer != (sent == 0) {
				t.Errorf("the source was asked %d times for the file", sent)
			}
		})
	}
}
