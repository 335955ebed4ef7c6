package etcd

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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.sign(name, nil)
	return a
}

// sign writes NAME.pem and NAME.key.
func (a *authority) sign(name string, by *authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: by == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: raw},
		".key": {Type: "EC PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, made
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// client trusts the authority, and shows a certificate of it, unless that has no name.
func (a *authority) client(name string) *tls.Config {
	a.t.Helper()
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(a.cert)
	if name != "" {
		a.sign(name, a)
		pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// ctl are commands of etcdctl of docs/fleet.md.
func ctl(t *testing.T, cluster *etcd.Cluster, dir, script string, env ...string) string {
	t.Helper()
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skip("no etcdctl on this host (Debian: etcd-client): the commands of fleet.md are not tried here")
	}
	c := exec.Command("sh", "-eu", "-c", script)
	c.Dir = dir
	c.Env = append(append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS="+strings.Join(cluster.Endpoints(), ","),
		// etcd computes long for passwords, and longer on busy cores
		"ETCDCTL_DIAL_TIMEOUT="+patience.String(), "ETCDCTL_COMMAND_TIMEOUT="+patience.String()), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v: %s", script, err, out)
	}
	return string(out)
}

// commandsOf are the commands for etcdctl in a section of the page, as blocks.
func commandsOf(t *testing.T, section string) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), section)
	if !found {
		t.Fatalf("the page lacks %s", section)
	}
	text, _, _ = strings.Cut(text, "\n#")
	var blocks []string
	in := false
	for line := range strings.Lines(text) {
		command, is := strings.CutPrefix(line, "    ")
		switch {
		case is && !in:
			blocks = append(blocks, command)
		case is:
			blocks[len(blocks)-1] += command
		}
		in = is
	}
	return blocks
}

// TestRoles: with the page's commands, a host can write its own keys and no other's, and a reader
// none; a wrong password is named.
func TestRoles(t *testing.T) {
	t.Parallel()
	cluster := etcd.Start(t, etcd.Options{})
	c := cluster.Client()
	dir := t.TempDir()
	for _, user := range []string{"gpu1", "reader", "root"} {
		if err := os.WriteFile(filepath.Join(dir, user+".password"), []byte(user+"-secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blocks := commandsOf(t, "### A role for each host")
	if len(blocks) != 2 {
		t.Fatalf("the page has %d blocks of commands, want 2", len(blocks))
	}
	ctl(t, cluster, dir, strings.Join(blocks, ""), "machine="+machineID)
	ctl(t, cluster, dir, "etcdctl user add root --interactive=false <root.password; "+
		"etcdctl user grant-role root root; etcdctl auth enable")
	as := func(boot, user, password string) Options {
		o := testOptions(cluster.Endpoints(), boot, nil)
		o.Prefix, o.User, o.Password = "/pool-managerd", user, password
		return o
	}
	has := func() string {
		return ctl(t, cluster, dir, "etcdctl get --prefix /pool-managerd/ --keys-only",
			"ETCDCTL_USER=reader:reader-secret")
	}
	h := runs(t, as("a", "gpu1", "gpu1-secret"))
	s := state("x", "y")
	s.Models = []wire.CachedModel{{Model: "hf:a/b", Files: 1}}
	h.box.Put(s)
	h.logs(t, "is published in etcd")
	for _, key := range []string{"hosts/" + machineID, "models/" + machineID,
		"pools/" + machineID + "/x", "pools/" + machineID + "/y"} {
		if !strings.Contains(has(), key) {
			t.Errorf("%s is not there: %s", key, has())
		}
	}
	set, err := lists(t, as("", "reader", "reader-secret"))
	if err != nil || len(set.Pools().Pools) != 2 {
		t.Errorf("the reader has %+v, %v", set, err)
	}
	_, err = lists(t, as("", "gpu1", "gpu1-secret"))
	if !errors.Is(err, rpctypes.ErrPermissionDenied) || !strings.Contains(ReadHint(err), "grant-role") {
		t.Errorf("a host reads without a role for that: %v", err)
	}
	ctl(t, cluster, dir, "etcdctl user grant-role gpu1 fleet-reader", "ETCDCTL_USER=root:root-secret")
	set, err = lists(t, as("", "gpu1", "gpu1-secret"))
	if err != nil || len(set.Pools().Pools) != 2 {
		t.Errorf("a host with the role of a reader has %+v, %v", set, err)
	}
	h.has("x")
	clone := runs(t, as("b", "gpu1", "gpu1-secret"))
	clone.has("z")
	clone.logs(t, "systemd-machine-id-setup")
	if keys := has(); !strings.Contains(keys, "conflicts/"+machineID+"/b") || strings.Contains(keys, "/z") {
		t.Errorf("etcd has %s", keys)
	}
	clone.close()
	other := as("c", "gpu1", "gpu1-secret")
	other.Host.MachineID = strings.Repeat("f", 32)
	foreign := runs(t, other)
	foreign.has("x")
	foreign.logs(t, "A role for each host")
	foreign.close()
	reads := as("d", "reader", "reader-secret")
	h.end()
	<-h.ended
	h.Leave(t.Context())
	if keys := has(); strings.Contains(keys, "pools") {
		t.Errorf("after the end etcd has %s", keys)
	}
	reader := runs(t, reads)
	reader.has("x")
	reader.logs(t, "permission denied")
	reader.close()
	wrong := runs(t, as("a", "gpu1", "guess"))
	wrong.has("x")
	wrong.logs(t, "password_file")
	if log := wrong.log.String(); strings.Contains(log, "guess") {
		t.Error("the password is in the log")
	}
	if _, err := c.Get(t.Context(), "/pool-managerd/", clientv3.WithPrefix()); err == nil {
		t.Error("etcd answers without a user: nothing was tried here")
	}
}

// lists reads the fleet once, again while etcd is too slow for that.
func lists(t *testing.T, o Options) (*view.Set, error) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		set, err := NewReader(o).List(t.Context())
		if err == nil || errors.Is(err, rpctypes.ErrPermissionDenied) || time.Now().After(end) {
			return set, err
		}
	}
}

// logs waits until a host's log has a text.
func (h *host) logs(t *testing.T, text string) {
	t.Helper()
	end := time.Now().Add(patience)
	for ; !strings.Contains(h.log.String(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log lacks %q: %s", text, h.log)
		}
	}
}

// TestTLS: with certificates a host is published, and what is wrong with them is logged with what
// to do.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	ca.sign("server", ca)
	cluster := etcd.Start(t, etcd.Options{Scheme: "https", Args: []string{"--cert-file", ca.file("server.pem"),
		"--key-file", ca.file("server.key"), "--client-cert-auth", "--trusted-ca-file", ca.file("ca.pem")}})
	for _, c := range []struct {
		name string
		tls  *tls.Config
		want string
	}{
		{"good", ca.client("gpu1"), "is published in etcd"},
		{"no_certificate", ca.client(""), "etcd wants a certificate"},
		{"another_authority_of_the_members", stranger.client("gpu1"), "in [etcd] ca_file"},
		{"no_tls", nil, "Let [etcd] endpoints begin with https://"},
		{"certificate_of_another_authority", func() *tls.Config {
			both := ca.client("")
			both.Certificates = stranger.client("gpu1").Certificates
			return both
		}(), "etcd wants a certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions(cluster.Endpoints(), "a", nil)
			if o.TLS = c.tls; c.tls == nil {
				o.Endpoints = []string{strings.Replace(o.Endpoints[0], "https", "http", 1)}
			}
			h := runs(t, o)
			h.has("x")
			h.logs(t, c.want)
		})
	}
	t.Run("nothing_listens", func(t *testing.T) {
		h := runs(t, testOptions([]string{"http://127.0.0.1:1"}, "a", nil))
		h.has("x")
		h.logs(t, "connection refused")
		h.logs(t, "--listen-client-urls")
	})
}
