// Package record is what a cluster's store holds of a host: its keys, and their values as compact
// JSON. Both who publishes and who reads use it.
//
// It owns names, types and what counts as a change: nothing that moves all the time while nothing
// happens, such as heartbeats or free memory, is in a record. It must not know how keys are stored.
package record

// Schema is the version that every value names. It grows when a field changes its meaning or goes;
// a reader leaves values of a version that it does not know alone. New fields do not change it.
const Schema = 1

// Host is the value of a host's key. The boot id differs between two hosts with one machine-id.
type Host struct {
	Schema    int     `json:"schema"`
	MachineID string  `json:"machine_id"`
	BootID    string  `json:"boot_id"`
	Instance  string  `json:"instance"` // of the publishing process, random
	Name      string  `json:"name"`     // its host name
	Address   string  `json:"address"`  // URL of its API for other hosts; empty: it has none
	Version   string  `json:"version"`
	Driver    string  `json:"driver"` // of NVIDIA; empty: none
	CPUs      int     `json:"cpu_cores"`
	RAMBytes  uint64  `json:"ram_total_bytes"`
	TTL       float64 `json:"ttl_s"`   // of the lease, seconds
	Started   string  `json:"started"` // when the publishing process began, RFC 3339, by the host's clock
	GPUs      []GPU   `json:"gpus"`
}

// GPU is a GPU of a host.
type GPU struct {
	Index             int    `json:"index"`
	Name              string `json:"name"`
	VRAMTotal         uint64 `json:"vram_total_bytes"` // 0: unknown
	ComputeCapability string `json:"compute_capability"`
}

// Pool is the value of a pool's key.
type Pool struct {
	Schema        int       `json:"schema"`
	ID            string    `json:"id"`
	Engine        string    `json:"engine"`
	EngineVersion string    `json:"engine_version"`
	ModelID       string    `json:"model_id"`
	Architecture  string    `json:"architecture"`
	Workload      string    `json:"workload"`
	Features      []string  `json:"features"`
	DeviceMask    []string  `json:"device_mask"`
	VRAMTotal     uint64    `json:"vram_total_bytes"` // of its devices; 0: unknown, or no GPU
	State         string    `json:"state"`
	Live          bool      `json:"live"`
	Ready         bool      `json:"ready"`
	Draining      bool      `json:"draining"`
	Wanted        bool      `json:"wanted"`
	SlotsTotal    int       `json:"slots_total"`
	SlotsFree     int       `json:"slots_free"`
	ActiveLeases  int       `json:"active_leases"`
	RestartCount  int       `json:"restart_count"`
	LastError     string    `json:"last_error"` // begins with its code; empty: none
	Hint          string    `json:"hint"`
	Replicas      []Replica `json:"replicas"`
}

// Replica is an engine process of a pool.
type Replica struct {
	ID           string   `json:"id"`
	State        string   `json:"state"`
	Ready        bool     `json:"ready"`
	Endpoint     string   `json:"endpoint"` // on the host's loopback; empty: it has none now
	DeviceMask   []string `json:"device_mask"`
	SlotsTotal   int      `json:"slots_total"`
	SlotsFree    int      `json:"slots_free"`
	ActiveLeases int      `json:"active_leases"`
}
