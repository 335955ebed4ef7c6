// Package wire is the protocol between the manager and a program that fetches models: one request
// as JSON, and then events as JSON lines. pool-fetch speaks it, and so may any program.
//
// It owns the messages, their bounds and the exit statuses. A reader trusts nothing of what another
// program prints: lines are bounded, numbers and names are checked. It must not know how anything
// is fetched.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
)

// Version is that of the protocol. A program refuses a request of a version that it does not know.
const Version = 1

// Bounds in bytes.
const (
	MaxRequest = 256 << 10
	MaxLine    = 4096
)

// Exit statuses of a program that fetches.
const (
	ExitDone   = 0  // the last event is a result
	ExitFailed = 1  // asking again without a change is useless
	ExitUsage  = 2  // the request is wrong
	ExitLater  = 75 // try again later (EX_TEMPFAIL, sysexits.h)
)

// Request is what to fetch, and how.
type Request struct {
	Version     int                 `json:"version"`
	Ref         string              `json:"ref"`                              // what to fetch, as in a pool file
	Digest      string              `json:"digest,omitempty"`                 // sha256:…, of the one file of ref
	CacheDir    string              `json:"cache_dir"`                        // absolute
	Directory   string              `json:"directory"`                        // the artefact's in cache_dir
	Endpoint    string              `json:"endpoint,omitempty"`               // URL of the hub or the object store
	Region      string              `json:"region,omitempty"`                 // of the object store; empty: that of its URL
	Hosts       map[string][]string `json:"hosts,omitempty"`                  // the only hosts to connect to, with addresses
	Connections int                 `json:"connections,omitempty"`            // at the same time; 0: 8
	RateLimit   int64               `json:"rate_limit_bytes_per_s,omitempty"` // 0: none
	MaxBytes    int64               `json:"max_bytes,omitempty"`              // of all files together; 0: none
	CAFile      string              `json:"ca_file,omitempty"`                // certificates to trust, instead of the host's
	Peers       []string            `json:"peers,omitempty"`                  // URLs of managers that may have the files; for pool-fetch alone
}

// MaxConnections is the most that a request may ask for.
const MaxConnections = 64

// isDigest reports whether s is sha256: and 64 lower-case hexadecimal digits.
func isDigest(s string) bool {
	digits, found := strings.CutPrefix(s, "sha256:")
	return found && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// maxName is the longest name of a file, in bytes.
const maxName = 255

// isPlainName reports whether s is one name of letters, digits and _.-, which does not begin with a
// dot or a dash.
func isPlainName(s string) bool {
	return s != "" && len(s) <= maxName && s[0] != '.' && s[0] != '-' && isOf(s, "_.-")
}

// maxRegion is the longest name of a region, in bytes.
const maxRegion = 64

// isRegion reports whether s is one of letters, digits, _ and -.
func isRegion(s string) bool { return s != "" && len(s) <= maxRegion && isOf(s, "_-") }

// isOf reports whether s has nothing but ASCII letters, digits and those of others.
func isOf(s, others string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(others, c)
	})
}

// ReadRequest reads one request, strictly: unknown fields are refused, so that a field of a later
// version is not ignored.
func ReadRequest(from io.Reader) (Request, error) {
	data, err := io.ReadAll(io.LimitReader(from, MaxRequest+1))
	if err != nil {
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	if len(data) > MaxRequest {
		return Request{}, fmt.Errorf("the request is longer than %d bytes", MaxRequest)
	}
	var r Request
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("the request is no JSON object of the protocol: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("the request is followed by something else")
	}
	return r, r.Check()
}

// Check returns what is wrong with a request.
func (r *Request) Check() error {
	switch {
	case r.Version != Version:
		return fmt.Errorf("version is %d; this program speaks %d", r.Version, Version)
	case r.Ref == "":
		return errors.New("ref is missing")
	case r.Digest != "" && !isDigest(r.Digest):
		return errors.New("digest is not sha256: and 64 hexadecimal digits")
	case !filepath.IsAbs(r.CacheDir):
		return errors.New("cache_dir is no absolute path")
	case !isPlainName(r.Directory):
		return errors.New("directory is not one plain name")
	case r.Connections < 0 || r.Connections > MaxConnections:
		return fmt.Errorf("connections is not in 0 to %d", MaxConnections)
	case r.RateLimit < 0 || r.MaxBytes < 0:
		return errors.New("a limit is negative")
	case r.Region != "" && !isRegion(r.Region):
		return errors.New("region is not one plain name")
	case r.CAFile != "" && !filepath.IsAbs(r.CAFile):
		return errors.New("ca_file is no absolute path")
	}
	if err := checkPeers(r.Peers); err != nil {
		return err
	}
	return checkHosts(r.Hosts)
}

// MaxPeers is the most that a request may name.
const MaxPeers = 16

func checkPeers(peers []string) error {
	if len(peers) > MaxPeers {
		return fmt.Errorf("peers has more than %d URLs", MaxPeers)
	}
	for _, p := range peers {
		u, err := url.Parse(p)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil ||
			u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("peers: %.80q is no URL of a manager", p)
		}
	}
	return nil
}

// Bounds of the names and addresses of a request or an answer.
const (
	maxHosts     = 256
	maxAddresses = 64
)

func checkHosts(hosts map[string][]string) error {
	if len(hosts) > maxHosts {
		return fmt.Errorf("hosts has more than %d names", maxHosts)
	}
	for name, addresses := range hosts {
		if name == "" || len(name) > 253 || strings.ToLower(name) != name || !isText(name, 253) {
			return fmt.Errorf("hosts: %.80q is no host name in lower case", name)
		}
		if len(addresses) == 0 || len(addresses) > maxAddresses {
			return fmt.Errorf("hosts: %s has %d addresses, not 1 to %d", name, len(addresses), maxAddresses)
		}
		for _, a := range addresses {
			if _, err := netip.ParseAddr(a); err != nil {
				return fmt.Errorf("hosts: %s: %.80q is no IP address", name, a)
			}
		}
	}
	return nil
}
