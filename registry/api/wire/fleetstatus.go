package wire

// FleetStatus is the answer of GET /v1/fleet/status, which pool-fleet's socket alone has: how
// publishing this host and reading the others goes.
type FleetStatus struct {
	Publishing []FleetPublishing `json:"publishing"`
	Reading    FleetReading      `json:"reading"`
}

// FleetPublishing is how publishing this host in one place goes, since pool-fleet began.
type FleetPublishing struct {
	To        string `json:"to"` // "etcd" or "orchestrator"
	Published bool   `json:"published"`
	Conflict  bool   `json:"conflict"`        // another host has this one's machine-id there
	SinceMS   int64  `json:"since_ms"`        // when one of the two changed
	Failures  uint64 `json:"failures"`        // attempts that failed
	Writes    uint64 `json:"writes"`          // keys that were written, or requests that were taken
	LastMS    int64  `json:"last_success_ms"` // of the last of them; 0: none
	LastError string `json:"last_error"`      // of the last failure, until the next success; empty: none
}

// FleetReading is how reading the fleet goes.
type FleetReading struct {
	State     string `json:"state"`    // "idle": no one asks; "reading"; "lost": etcd cannot be read
	SinceMS   int64  `json:"since_ms"` // when etcd last answered; 0: not yet
	Hosts     int    `json:"hosts"`
	Pools     int    `json:"pools"`
	Conflicts int    `json:"conflicts"`
}
