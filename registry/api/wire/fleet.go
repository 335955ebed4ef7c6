package wire

// FleetPools is the answer of GET /v1/fleet/pools: what etcd has of every host, as this host reads
// it.
type FleetPools struct {
	Prefix    string          `json:"prefix"`   // of the keys in etcd
	Revision  int64           `json:"revision"` // of etcd, up to which changes are in it
	Hosts     []FleetHost     `json:"hosts"`
	Pools     []FleetPool     `json:"pools"`
	Conflicts []FleetConflict `json:"conflicts"`
	Skipped   int             `json:"skipped"`   // keys whose values this version cannot read
	Truncated bool            `json:"truncated"` // the fleet is larger than this host keeps
}

// FleetHost is a host that is published.
type FleetHost struct {
	MachineID string     `json:"machine_id"`
	BootID    string     `json:"boot_id"`
	Name      string     `json:"name"`
	Address   string     `json:"address"` // URL of its API; empty: it has none for other hosts
	Version   string     `json:"version"`
	Driver    string     `json:"driver"` // of NVIDIA; empty: none
	CPUs      int        `json:"cpu_cores"`
	RAMBytes  uint64     `json:"ram_total_bytes"`
	TTL       float64    `json:"ttl_s"`
	Started   string     `json:"started"`
	GPUs      []FleetGPU `json:"gpus"`
}

// FleetGPU is a GPU of a host.
type FleetGPU struct {
	Index             int    `json:"index"`
	Name              string `json:"name"`
	VRAMTotal         uint64 `json:"vram_total_bytes"` // 0: unknown
	ComputeCapability string `json:"compute_capability"`
}

// FleetPool is a pool of a host that is published.
type FleetPool struct {
	Node          string         `json:"node"` // host name
	MachineID     string         `json:"machine_id"`
	Address       string         `json:"address"` // of the host
	ID            string         `json:"id"`
	Engine        string         `json:"engine"`
	EngineVersion string         `json:"engine_version"`
	ModelID       string         `json:"model_id"`
	Architecture  string         `json:"architecture"`
	Workload      string         `json:"workload"`
	Features      []string       `json:"features"`
	DeviceMask    []string       `json:"device_mask"`
	VRAMTotal     uint64         `json:"vram_total_bytes"`
	State         string         `json:"state"`
	Live          bool           `json:"live"`
	Ready         bool           `json:"ready"`
	Draining      bool           `json:"draining"`
	Wanted        bool           `json:"wanted"`
	SlotsTotal    int            `json:"slots_total"`
	SlotsFree     int            `json:"slots_free"`
	ActiveLeases  int            `json:"active_leases"`
	RestartCount  int            `json:"restart_count"`
	LastError     string         `json:"last_error"`
	Hint          string         `json:"hint"`
	Replicas      []FleetReplica `json:"replicas"`
}

// FleetReplica is an engine process of a pool. Its endpoint is on that host's loopback.
type FleetReplica struct {
	ID           string   `json:"id"`
	State        string   `json:"state"`
	Ready        bool     `json:"ready"`
	Endpoint     string   `json:"endpoint"`
	DeviceMask   []string `json:"device_mask"`
	SlotsTotal   int      `json:"slots_total"`
	SlotsFree    int      `json:"slots_free"`
	ActiveLeases int      `json:"active_leases"`
}

// FleetConflict is a host that is not published, since another one has its machine-id.
type FleetConflict struct {
	MachineID string `json:"machine_id"`
	BootID    string `json:"boot_id"`
	Name      string `json:"name"`
	Address   string `json:"address"`
	Published string `json:"published"` // name of the other host; empty: it is gone
}

// FleetEvent is one of pool-fleet's stream of changes. Its kind is that of the stream's event.
type FleetEvent struct {
	Kind      string         `json:"kind"`
	MachineID string         `json:"machine_id,omitempty"`
	Node      string         `json:"node,omitempty"`
	PoolID    string         `json:"pool_id,omitempty"`
	BootID    string         `json:"boot_id,omitempty"`  // of a conflict
	Host      *FleetHost     `json:"host,omitempty"`     // of kind host
	Pool      *FleetPool     `json:"pool,omitempty"`     // of kind pool
	Conflict  *FleetConflict `json:"conflict,omitempty"` // of kind conflict
	Revision  int64          `json:"revision,omitempty"` // of kind synced
	LastError string         `json:"last_error,omitempty"`
	Hint      string         `json:"hint,omitempty"`
}
