//go:build machine

package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// peerSize is that of each model, in bytes.
const peerSize = 24 << 20

// serveFleet runs at the first host what all hosts of a fleet share: an etcd, and the source of the
// models, at an address that is not that of its API.
const serveFleet = `
	mkdir -p /srv/hub; cd /srv/hub
	for name in denied taken damaged away; do
		cp /srv/models/tiny.gguf $name.gguf; truncate -s 24M $name.gguf; echo $name >>$name.gguf
	done
	systemd-run --quiet --unit=hub --service-type=exec /usr/local/bin/hub -dir /srv/hub -repo acme/tiny -listen 10.9.8.7:8080 \
		-endpoint http://hub.test:8080 -cdn http://cdn.test:8081 -lfs 100000
	systemd-run --quiet --unit=etcd-test --service-type=exec --property=StateDirectory=etcd-test /usr/local/bin/etcd \
		--data-dir /var/lib/etcd-test --listen-client-urls http://10.9.8.7:2379 --advertise-client-urls http://10.9.8.7:2379
	until curl --silent --output /dev/null http://10.9.8.7:8080/ && curl --silent http://10.9.8.7:2379/health; do
		sleep 0.1
	done`

// sharing is the configuration of a host whose cache the others may read, and its listener.
const (
	sharing = `advertise_url = "https://gpu1.example.com:9200"
auth_token_file = "/etc/pool-managerd/token"
tls_cert_file = "/etc/pool-managerd/api.pem"
tls_key_file = "/etc/pool-managerd/api.key"
provisioning.share = true
` + ofFleet
	ofFleet = "[etcd]\nendpoints = [\"http://10.9.8.7:2379\"]\nttl = \"5s\"\n"
	listens = "[Socket]\nListenStream=10.9.8.8:9200\n"

	ofPeers = `provisioning.peers = "fleet"
provisioning.peers_token_file = "/etc/pool-managerd/fleet-token"
provisioning.peers_ca_file = "/etc/pool-managerd/fleet-ca.pem"
`
	fleetToken = "0123456789abcdef0123456789abcdef"
)

const endFleet = `
	rm -rf /etc/systemd/system/pool-managerd.socket.d /etc/pool-managerd/token /etc/pool-managerd/api.* /etc/pool-managerd/fleet-*
	systemctl stop pool-managerd.service pool-managerd.socket pool-fleet hub etcd-test 'pool-fetch@*' 2>/dev/null || true
	systemctl daemon-reload; systemctl reset-failed || true; sed -i '/hub.test/d; /gpu1.example/d' /etc/hosts
	rm -rf /srv/hub /var/lib/etcd-test /var/cache/pool-managerd/models; ip link delete wire 2>/dev/null || true`

// TestModelsFromNeighbours: of two hosts with a network and an etcd, the second one takes a model
// from the cache of the first, as far as its policy allows, and from its source where the first one
// has damaged it or is cut off.
func TestModelsFromNeighbours(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"etcd", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("no " + program + " on this host (Debian: etcd-server, iproute2): it is not tried in machines")
		}
	}
	a, b := installed(t, machine.Forky), installed(t, machine.Forky)
	ctx, cancel := a.within()
	defer cancel()
	err := machine.Link(ctx, a.M, []string{"10.9.8.7/24", "10.9.8.8/24"}, b.M, []string{"10.9.8.9/24"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.shell(endFleet)
	defer a.shell(endFleet)
	for _, h := range []*site{a, b} {
		h.shell("echo '10.9.8.7 hub.test cdn.test' >>/etc/hosts; echo '10.9.8.8 gpu1.example.com' >>/etc/hosts")
	}
	shareCache(a, b)
	t.Run("not_allowed", func(t *testing.T) { peerNotAllowed(b.in(t)) })
	b.write(host.ConfigFile, fetching("hub.test", "cdn.test", "gpu1.example.com")+ofPeers+ofFleet)
	b.reload()
	t.Run("taken", func(t *testing.T) { peerGives(b.in(t)) })
	t.Run("damaged", func(t *testing.T) { peerDamaged(a.in(t), b.in(t)) })
	t.Run("away", func(t *testing.T) { peerAway(a.in(t), b.in(t)) })
}

// shareCache has the first host share a cache with all models of the hub, and the second one know
// its certificate and a token.
func shareCache(a, b *site) {
	lent := httptest.NewTLSServer(nil) // for its certificate, which is of *.example.com, too
	defer lent.Close()
	cert := lent.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	path, err := exec.LookPath("etcd")
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.M.CopyIn(a.t.Context(), path, "/usr/local/bin/etcd"); err != nil {
		a.t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	a.write("/etc/pool-managerd/api.pem", public)
	b.write("/etc/pool-managerd/fleet-ca.pem", public)
	a.write("/etc/pool-managerd/api.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	a.write("/etc/pool-managerd/token", fleetToken+" name=fleet scope=read\n")
	b.write("/etc/pool-managerd/fleet-token", fleetToken+"\n")
	b.shell("chmod 600 /etc/pool-managerd/fleet-token")
	a.shell(serveFleet)
	a.write("/etc/systemd/system/pool-managerd.socket.d/far.conf", listens)
	a.write(host.ConfigFile, fetching("hub.test", "cdn.test")+sharing)
	a.shell("chmod 600 /etc/pool-managerd/token /etc/pool-managerd/api.key; systemctl daemon-reload; " +
		"systemctl stop pool-managerd.service pool-managerd.socket; systemctl start pool-managerd.socket pool-managerd")
	// pool-fleet looks at the cache once a minute, and when it starts; the manager's list is up to
	// five seconds old.
	a.shell("for m in denied taken damaged away; do poolctl models pull hf:acme/tiny/$m.gguf >/dev/null & done; " +
		"wait; until test $(curl --silent --unix-socket " + host.Socket + " http://socket/v1/models | " +
		"grep -o sha256: | wc -l) = 4; do sleep 0.2; done; systemctl restart pool-fleet")
	b.write(host.ConfigFile, fetching("hub.test", "cdn.test")+ofPeers+ofFleet)
	b.reload()
	b.shell("until poolctl fleet models | grep acme/tiny; do sleep 0.2; done")
}

// counters are those of downloads.
type counters struct {
	peers, all int // bytes that came from other hosts, and from anywhere
	seconds    float64
}

func (s *site) counters() (c counters) {
	s.t.Helper()
	text := s.shell("curl --silent http://127.0.0.1:9200/metrics | awk '/^model_fetch_peer_bytes_total/ {p=$2} " +
		"/^model_fetch_bytes_total/ {a=$2} /^model_fetch_duration_seconds_sum/ {s=$2} " +
		"END {printf \"%d %d %f\", p, a, s}'")
	if _, err := fmt.Sscan(text, &c.peers, &c.all, &c.seconds); err != nil {
		s.t.Fatalf("%v: %q", err, text)
	}
	return c
}

// came has a pool ready whose model is what the hub has, and returns how many bytes of it came from
// other hosts, and from anywhere.
func (s *site) came(id string) (fromPeers, all int) {
	s.t.Helper()
	before, began := s.counters(), time.Now()
	s.pool(id, from(id+".gguf"))
	s.reload()
	s.wait(id, isReady)
	took := time.Since(began)
	out := s.shell("cd /var/cache/pool-managerd/models/models--acme--tiny/snapshots/*; tail -c 16 " + id + ".gguf | " +
		"tr -d '\\0'; test $(basename $(readlink " + id + ".gguf)) = $(sha256sum <" + id + ".gguf | cut -d' ' -f1)")
	if strings.TrimSpace(out) != id {
		s.t.Errorf("it is not what the hub has: %q", out)
	}
	now := s.counters()
	s.t.Logf("%d bytes in %.1f s; ready after %.1f s", now.all-before.all, now.seconds-before.seconds, took.Seconds())
	return now.peers - before.peers, now.all - before.all
}

// hasLine waits until the journal of these units has all texts in one line.
func (s *site) hasLine(unit string, texts ...string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, fmt.Sprintf("journalctl --no-pager -o json -u '%s' --since=@%d", unit, s.began.Unix()))
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			all := true
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return nil
			}
		}
		return errors.New("no line of " + unit + " has " + strings.Join(texts, ", "))
	})
}

// peerNotAllowed: the log names the host and the line of the policy, and the source is asked.
func peerNotAllowed(b *site) {
	if n, all := b.came("denied"); n != 0 || all < peerSize {
		b.t.Errorf("%d of %d bytes came from the other host", n, all)
	}
	b.hasLine("pool-managerd", "gpu1.example.com", "allowed_hosts under [policy] in /etc/pool-managerd/config.toml")
}

// peerGives: the token is a credential, and nothing comes from the source.
func peerGives(b *site) {
	if n, all := b.came("taken"); n < peerSize || n != all {
		b.t.Errorf("%d of %d bytes came from the other host", n, all)
	}
	b.hasLine("pool-fetch@*", "bytes came from gpu1.example.com")
}

// peerDamaged: what has another digest than the source names is not kept.
func peerDamaged(a, b *site) {
	a.shell("cd /var/cache/pool-managerd/models/models--acme--tiny; " +
		"printf damage | dd of=$(readlink -f snapshots/*/damaged.gguf) bs=1 seek=20000000 conv=notrunc status=none")
	if n, all := b.came("damaged"); n != 0 || all < peerSize {
		b.t.Errorf("%d of %d bytes came from the other host", n, all)
	}
	b.hasLine("pool-fetch@*", "has another digest")
}

// peerAway: a host whose address is gone costs seconds. In that time the unit of the download is
// there to be looked at: it may reach the addresses of both and no other.
func peerAway(a, b *site) {
	a.shell("ip address delete 10.9.8.8/24 dev wire")
	seen := make(chan string, 1)
	go func() {
		r := b.M.Shell(b.t.Context(), "for i in $(seq 300); do for u in $(systemctl list-units --plain --no-legend "+
			"'pool-fetch@*' | cut -d' ' -f1); do systemctl show -P IPAddressAllow -P IPAddressDeny $u; "+
			"systemctl cat $u | grep ^LoadCredential; exit; done; sleep 0.05; done")
		seen <- r.Stdout
	}()
	if n, all := b.came("away"); n != 0 || all < peerSize {
		b.t.Errorf("%d of %d bytes came from the other host", n, all)
	}
	b.hasLine("pool-fetch@*", "gpu1.example.com", "not asked again")
	unit := strings.Join(strings.Fields(<-seen), " ")
	for _, want := range []string{"10.9.8.7/32 10.9.8.8/32", "0.0.0.0/0", "peers-token:/etc/pool-managerd/fleet-token",
		"peers-ca:/etc/pool-managerd/fleet-ca.pem"} {
		if !strings.Contains(unit, want) {
			b.t.Errorf("the unit of the download has no %s: %s", want, unit)
		}
	}
}
