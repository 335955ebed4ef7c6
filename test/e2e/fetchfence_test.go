//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// serveFarHub runs the hub's imitation at one address, and other servers at another one. The
// download has eight connections and takes more than an hour: with a file of 4 MiB it was whole
// after nine minutes, before a busy machine came to the last question.
const serveFarHub = `
	ip addr add 10.9.8.7/32 dev lo; ip addr add 10.9.8.8/32 dev lo
	echo '10.9.8.7 hub.test cdn.test' >>/etc/hosts
	mkdir -p /srv/hub /srv/other; cp /srv/models/tiny.gguf /srv/other/
	cp /srv/models/tiny.gguf /srv/hub/big.gguf; truncate -s 64M /srv/hub/big.gguf
	systemd-run --quiet --unit=hub --service-type=exec /usr/local/bin/hub -dir /srv/hub -repo acme/tiny \
		-listen 10.9.8.7:8080 -endpoint http://hub.test:8080 -cdn http://cdn.test:8081 -lfs 100000 -fault cdn:slow=2000
	systemd-run --quiet --unit=other --service-type=exec /usr/local/bin/hub -dir /srv/other -repo acme/tiny \
		-listen 10.9.8.8:8080 -endpoint http://10.9.8.8:8080 -cdn http://10.9.8.8:8081
	until curl --silent --output /dev/null http://hub.test:8080/ &&
		curl --silent --output /dev/null http://10.9.8.8:8080/; do sleep 0.2; done`

const endFarHub = `
	systemctl stop hub other 'pool-fetch@*' || true; systemctl reset-failed || true
	sed -i /hub.test/d /etc/hosts; ip addr del 10.9.8.7/32 dev lo; ip addr del 10.9.8.8/32 dev lo
	rm -rf /srv/hub /srv/other /var/cache/pool-managerd/models`

// TestDownloadsAreFenced: PID 1 enforces, in a virtual machine with a kernel of its own, that the
// unit of a download reaches the address that was found for its host and nothing else, no name
// server either, and that an engine reaches neither. Each connection is made by another program in
// the unit's control group, which has none of the checks of pool-fetch.
func TestDownloadsAreFenced(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.M.Require(t, machine.BPF())
	h.shell(serveFarHub)
	defer h.shell(endFarHub)
	h.write(host.ConfigFile, fetching("hub.test", "cdn.test"))
	h.pool("a", stub().quick())
	h.pool("b", from("big.gguf"))
	h.reload()
	h.wait("a", isReady)
	h.wait("b", progressing)
	unit := h.download()
	if allowed := h.must("systemctl", "show", "-P", "IPAddressAllow", unit); allowed != "10.9.8.7/32" {
		t.Errorf("IPAddressAllow is %q", allowed)
	}
	// The kernel drops what is forbidden without a word, so that a refusal takes all of the time.
	const get, slowly, udp = "curl --silent --output /dev/null --max-time 5 http://%s/",
		"curl --silent --output /dev/null --max-time 60 http://%s/", "bash -c 'echo x >/dev/udp/%s'"
	for _, c := range []struct {
		name, in, command, address string
		passes                     bool
	}{
		{"the_hub", "download", slowly, "10.9.8.7:8080", true},
		{"another_host", "download", get, "10.9.8.8:8080", false},
		{"a_name_server", "download", udp, "10.9.8.8/53", false},
		{"a_name_server_of_this_host", "download", udp, "127.0.0.53/53", false},
		{"the_hub_from_an_engine", "engine", get, "10.9.8.7:8080", false},
		{"another_host_from_an_engine", "engine", get, "10.9.8.8:8080", false},
		{"a_name_server_from_an_engine", "engine", udp, "10.9.8.8/53", false},
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			command := strings.Replace(c.command, "%s", c.address, 1)
			h.eventually(func(ctx context.Context) error { // it passes outside of the unit
				_, err := h.Shell(ctx, command)
				return err
			})
			status := h.inGroup(c.in, command)
			if passed := status == 0; passed != c.passes {
				t.Errorf("%s: status %d", command, status)
			}
		})
		if !ok {
			return // each of the others takes minutes in a machine that no longer answers
		}
	}
	t.Run("an_engine_reaches_nothing_by_itself", func(t *testing.T) {
		h := h.in(t)
		ctx, cancel := h.within()
		defer cancel()
		a, err := h.Engine(ctx, "a", http.MethodPost, "/stub/dial?network=tcp&address=10.9.8.7:8080", nil)
		if err != nil || strings.Contains(string(a.Body), "connected") {
			t.Errorf("%s (%v)", a.Body, err)
		}
	})
}

// inGroup runs a command in the control group of the download or of the engine, and returns its
// status. A download whose server is late for it ends, with all in its control group, and runs
// again in another one: a command that was killed proves nothing, and runs again too.
func (s *site) inGroup(in, command string) (status int) {
	s.t.Helper()
	ctx, cancel := s.within(4 * patience)
	defer cancel()
	err := host.Eventually(ctx, func(ctx context.Context) error {
		unit := host.EngineUnit("a")
		if in == "download" {
			unit = s.download()
		}
		out, err := s.Shell(ctx, "group=$(systemctl show -P ControlGroup '"+unit+"'); "+
			"sh -c 'echo $$ >/sys/fs/cgroup'$group'/cgroup.procs && echo entered && exec \"$@\"' sh "+
			command+" 2>&1 && echo status 0 || echo status $?")
		if err != nil {
			return err
		}
		if !strings.Contains(out, "entered") {
			return fmt.Errorf("not in the control group of %q: %s", unit, out)
		}
		_, text, _ := strings.Cut(out, "status ")
		if status, err = strconv.Atoi(strings.TrimSpace(text)); err == nil && status > 128 {
			err = fmt.Errorf("killed in %q: %s", unit, out)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}
