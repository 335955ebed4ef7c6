package obtain

import (
	"context"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// mostPeers bounds the hosts that one download asks.
const mostPeers = 4

// peers are the managers of other hosts that may have the model and that the policy allows, with
// the addresses of their hosts. They are asked because that is faster: without them the download is
// as if there were none.
func (f *flight) peers(ctx context.Context) (urls []string, pins map[string][]string) {
	ref := f.want.Ref
	if !f.settings.Peers || f.o.o.Peers == nil || ref.Own() || ref.Scheme == modelref.Image {
		return nil, nil
	}
	pins = make(map[string][]string)
	for _, text := range f.o.o.Peers(ctx, ref) {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.User != nil || len(urls) == min(mostPeers, wire.MaxPeers) {
			continue
		}
		host := strings.ToLower(u.Hostname())
		if !f.settings.Allows(host) {
			f.o.o.Log.Info("a host of the fleet has the model, and the policy does not allow a connection to it",
				"model_id", ref.String(), "host", host, "hint", "Add it to allowed_hosts under [policy] in "+
					egress.PolicyFile+", for downloads from it.")
			continue
		}
		if pins[host] == nil {
			found, why := f.addresses(ctx, []string{host})
			if why != "" {
				f.o.o.Log.Info("a host of the fleet that has the model has no address: "+why, "model_id", ref.String())
				continue
			}
			maps.Copy(pins, found)
		}
		urls = append(urls, text)
	}
	return urls, pins
}

// peerCredentials are the files that PID 1 reads for a download that asks peers. One that is
// missing is left out, and a peer that wants it refuses then.
func (f *flight) peerCredentials() (all []systemd.PathString) {
	for _, c := range []systemd.PathString{{First: "peers-token", Second: f.settings.PeersToken},
		{First: "peers-ca", Second: f.settings.PeersCA}} {
		if c.Second == "" {
			continue
		}
		if _, err := os.Stat(c.Second); err != nil {
			f.o.o.Log.Warn("a file for downloads from other hosts of the fleet cannot be used: "+err.Error(),
				"hint", "Correct peers_token_file and peers_ca_file under [provisioning] in "+egress.PolicyFile+".")
			continue
		}
		all = append(all, c)
	}
	return all
}

// withPeers are pins with those of peers.
func withPeers(pins, peers map[string][]string) map[string][]string {
	all := maps.Clone(pins)
	for host, addresses := range peers {
		if all[host] == nil {
			all[host] = slices.Clone(addresses)
		}
	}
	return all
}
