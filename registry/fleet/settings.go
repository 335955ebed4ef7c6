package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// SettingsFile is where the manager writes the settings that are in force, for pool-fleet: a
// config.toml that is wrong changes nothing of them. It has paths of secrets, and no secret.
const SettingsFile = "/run/pool-managerd/fleet.json"

// Socket is where pool-fleet shows the fleet. Any user of the host may connect, as to the API's.
const Socket = "/run/pool-fleet/fleet.sock"

// Settings are what this host is published with.
type Settings struct {
	AdvertiseURL string       `json:"advertise_url"`
	Orchestrator Orchestrator `json:"orchestrator"`
	Etcd         Etcd         `json:"etcd"`
}

// Etcd is where this host is published.
type Etcd struct {
	Endpoints    []string `json:"endpoints"` // none: nowhere
	Prefix       string   `json:"prefix"`
	TTLMS        int64    `json:"ttl_ms"`
	CAFile       string   `json:"ca_file"`   // empty: the authorities that the host trusts
	CertFile     string   `json:"cert_file"` // empty: none
	KeyFile      string   `json:"key_file"`
	Username     string   `json:"username"` // empty: none
	PasswordFile string   `json:"password_file"`
}

// TTL is the time of the lease, in whole seconds.
func (e Etcd) TTL() time.Duration {
	return (time.Duration(e.TTLMS) * time.Millisecond).Truncate(time.Second)
}

// Orchestrator is who this host is registered at.
type Orchestrator struct {
	URL        string `json:"url"`
	TokenFile  string `json:"token_file"` // empty: no token
	CAFile     string `json:"ca_file"`    // empty: the authorities that the host trusts
	NodeID     string `json:"node_id"`    // empty: the host's name
	IntervalMS int64  `json:"interval_ms"`
}

// Interval is the time between two heartbeats.
func (o Orchestrator) Interval() time.Duration { return time.Duration(o.IntervalMS) * time.Millisecond }

// Encode returns the settings as the file has them.
func (s Settings) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

// ReadSettings reads a file of settings. A key that is unknown is an error: the manager is of
// another version then.
func ReadSettings(path string) (Settings, error) {
	var s Settings
	content, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("could not read the settings, which the manager writes: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%s is not of this version: %w; systemctl reload pool-managerd writes it again", path, err)
	}
	switch {
	case s.Orchestrator.URL == "" && len(s.Etcd.Endpoints) == 0:
		return s, fmt.Errorf("%s names no orchestrator and no etcd", path)
	case s.Orchestrator.URL != "" && s.Orchestrator.Interval() < time.Second:
		return s, fmt.Errorf("%s has no interval for the orchestrator", path)
	case len(s.Etcd.Endpoints) > 0 && (s.Etcd.TTL() < time.Second || s.Etcd.Prefix == ""):
		return s, fmt.Errorf("%s has no ttl or no prefix for etcd", path)
	}
	return s, nil
}
