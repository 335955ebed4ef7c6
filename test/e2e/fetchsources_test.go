//go:build machine

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// serveSources runs an object store whose requests are signed, and a registry whose tokens and
// blobs are at other hosts, with the keys of both in files that only root may read.
const serveSources = `
	grep -q store.test /etc/hosts || echo '127.0.0.1 hub.test store.test registry.localhost auth.test blobs.test' >>/etc/hosts
	mkdir -p /srv/hub; cp /srv/models/tiny.gguf /srv/hub/tiny.gguf
	systemd-run --quiet --unit=hub --service-type=exec /usr/local/bin/hub -dir /srv/hub -listen 127.0.0.1:8080 \
		-s3 127.0.0.1:8082 -keys AKIA:s3cr3t -registry http://registry.localhost:8083 -realm http://auth.test:8084 \
		-blobs http://blobs.test:8085 -login user:password
	until curl --silent --output /dev/null http://store.test:8082/; do sleep 0.1; done
	umask 077
	printf '[default]\naws_access_key_id = AKIA\naws_secret_access_key = s3cr3t\n' >/etc/pool-managerd/keys
	printf '{"auths":{"registry.localhost:8083":{"auth":"dXNlcjpwYXNzd29yZA=="}}}' >/etc/pool-managerd/auth.json`

const endSources = `
	systemctl stop hub 'pool-fetch@*' || true; systemctl reset-failed || true
	sed -i /store.test/d /etc/hosts; rm -rf /srv/hub /etc/pool-managerd/keys /etc/pool-managerd/auth.json /var/cache/pool-managerd/models`

// TestFetchFromStoresAndRegistries: a pool file that names an object or an artefact goes to ready,
// with secrets that only PID 1 reads; each host that the download leads to is one of the policy.
func TestFetchFromStoresAndRegistries(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.shell(serveSources)
			defer h.shell(endSources)
			const artefact, object = "oci:registry.localhost:8083/ai/tiny:v1", "s3://models/tiny.gguf"
			const keys = "provisioning.s3_credentials_file = \"/etc/pool-managerd/keys\"\n" +
				"provisioning.registry_auth_file = \"/etc/pool-managerd/auth.json\"\n"
			const store = "provisioning.s3_endpoint = \"http://store.test:8082\"\n"
			hosts := []string{"hub.test", "store.test", "registry.localhost", "auth.test", "blobs.test"}
			for _, c := range []struct{ name, model, config, code, says string }{
				{"no_store", object, fetching(hosts...), "CONFIG_INVALID", "s3_endpoint"},
				{"no_keys", object, fetching(hosts...) + store, "PROVISION_FAILED", "s3_credentials_file"},
				{"no_login", artefact, fetching(hosts...), "PROVISION_FAILED", "registry_auth_file"},
				{"the_host_of_tokens", artefact, fetching(hosts[:3]...) + keys, "POLICY_DENIED", "auth.test"},
				{"the_host_of_blobs", artefact, fetching(hosts[:4]...) + keys, "POLICY_DENIED", "blobs.test"},
				{"an_object", object, fetching(hosts...) + store + keys, "", ""},
				{"an_artefact", artefact, fetching(hosts...) + store + keys, "", ""},
			} {
				t.Run(c.name, func(t *testing.T) {
					h := h.in(t)
					p := stub().quick()
					p.keys[1] = `model = "` + c.model + `"`
					h.write(host.ConfigFile, c.config)
					h.pool("a", p)
					h.reload()
					if c.code == "" {
						h.wait("a", isReady)
						return
					}
					h.wait("a", condition{c.code + " about " + c.says, func(p host.Pool) bool {
						return p.Code() == c.code && strings.Contains(p.LastError+p.Hint, c.says)
					}})
				})
			}
			secrets := h.shell(fmt.Sprintf("journalctl --no-pager -o json --since=@%d -u 'pool-*' |", h.began.Unix()) +
				" grep -c -e s3cr3t -e dXNlcjpwYXNzd29yZA || true")
			if strings.TrimSpace(secrets) != "0" {
				t.Errorf("a secret is in %s lines of the journal", secrets)
			}
		})
	}
}
