package etcd

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const ofClient = "etcd wants a certificate in [etcd] cert_file that an authority of its --trusted-ca-file has signed."

// hints are what to do about errors of etcd and of connections, by a part of their text.
var hints = []struct{ part, hint string }{
	{"certificate required", ofClient},
	{"bad certificate", ofClient},
	{"unknown certificate authority", ofClient},
	{"x509:", "Is the authority that signed etcd's certificate in [etcd] ca_file, and the endpoint's name in the certificate?"},
	{"first record does not look like a TLS handshake", "etcd has no TLS there: let endpoints begin with http://."},
	{"closed the connection", "Does etcd want TLS? Let [etcd] endpoints begin with https://."},
	{"connection reset by peer", "Does etcd want TLS? Let [etcd] endpoints begin with https://."},
	{"connection refused", "Is etcd running there, and listening on that address (--listen-client-urls)?"},
	{"no such host", "Is the name in [etcd] endpoints right? pool-fleet asks the name servers of /etc/resolv.conf."},
}

// ReadHint is what to do about an error of a reader.
func ReadHint(err error) string {
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return "Let the user of this host read the fleet: etcdctl user grant-role USER fleet-reader; fleet.md, " +
			`"A role for each host".`
	}
	return hintOf(err)
}

// hintOf is what to do about an error.
func hintOf(err error) string {
	switch {
	case errors.Is(err, errSlow):
		return "It gets more time at the next attempts. Has etcd a leader, enough of a processor, and a disk of its " +
			"own? etcdctl --endpoints=… endpoint status; its log reports slow disks."
	case errors.Is(err, errLost), errors.Is(err, errTaken):
		return "It is published again. If this is frequent: is etcd slow, or [etcd] ttl too short?"
	case errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrUserEmpty):
		return "Are [etcd] username and the text of password_file those of a user of etcd?"
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return "Grant the role of this host its keys: fleet.md, \"A role for each host\"."
	case errors.Is(err, rpctypes.ErrNoSpace):
		return "etcd has no room: compact and defragment it, then etcdctl alarm disarm."
	}
	for _, h := range hints {
		if strings.Contains(err.Error(), h.part) {
			return h.hint
		}
	}
	return "Nothing on this host depends on it. Are [etcd] endpoints right, does a member answer there, and have " +
		"they a leader? etcdctl --endpoints=… endpoint status"
}
