package wire

// What a GPU does not support, or what is not known of it, is absent from these types: never 0 and
// never null. So a program cannot mistake an unknown figure for an idle GPU.

// DeviceList is the answer of GET /v1/devices.
type DeviceList struct {
	Driver  Driver      `json:"driver"`
	TakenMS *int64      `json:"taken_ms,omitempty"` // when the facts were read; absent: never
	Stale   *Stale      `json:"stale,omitempty"`    // absent: the facts are refreshed
	Devices []GPUDevice `json:"devices"`            // by index
}

// Driver is the NVIDIA driver of the host.
type Driver struct {
	Version   string `json:"version,omitempty"`
	CUDA      string `json:"cuda,omitempty"`       // the newest CUDA that it serves
	Library   string `json:"library,omitempty"`    // of libnvidia-ml.so.1
	Problem   string `json:"problem,omitempty"`    // why there are no facts, as one word: no-library, no-driver, …
	LastError string `json:"last_error,omitempty"` // the same as a sentence, beginning with its code
	Hint      string `json:"hint,omitempty"`
}

// Stale is why the facts are no longer refreshed.
type Stale struct {
	AgeMS     *int64 `json:"age_ms,omitempty"` // by the server's clock; absent: there were never any facts
	LastError string `json:"last_error"`       // beginning with its code
	Hint      string `json:"hint,omitempty"`
}

// VRAM is memory of a GPU or partition. Used excludes Reserved if the driver reports both.
type VRAM struct {
	TotalBytes    *uint64 `json:"vram_total_bytes,omitempty"`
	FreeBytes     *uint64 `json:"vram_free_bytes,omitempty"`
	UsedBytes     *uint64 `json:"vram_used_bytes,omitempty"`
	ReservedBytes *uint64 `json:"vram_reserved_bytes,omitempty"` // by the driver
}

// GPUDevice is one physical GPU.
type GPUDevice struct {
	UUID              string `json:"uuid,omitempty"` // "GPU-…"
	Index             int    `json:"index"`          // may change at a reboot
	PCI               string `json:"pci,omitempty"`  // "00000000:65:00.0"
	Minor             *int   `json:"minor,omitempty"`
	Name              string `json:"name,omitempty"`
	ComputeCapability string `json:"compute_capability,omitempty"` // "8.6"
	VRAM
	UtilizationPercent *int      `json:"utilization_percent,omitempty"`
	TemperatureCelsius *int      `json:"temperature_celsius,omitempty"`
	PowerState         *int      `json:"power_state,omitempty"` // 0 is the fastest (P0), 15 the slowest
	PowerMilliwatts    *int      `json:"power_milliwatts,omitempty"`
	ECC                *ECC      `json:"ecc,omitempty"`
	RowRemap           *RowRemap `json:"row_remap,omitempty"`
	// RecoveryAction is the driver's own advice: none, reset, reboot, drain-p2p or drain-and-reset.
	RecoveryAction string         `json:"recovery_action,omitempty"`
	MIG            *bool          `json:"mig,omitempty"`       // MIG mode is on
	Partitions     []MIGPartition `json:"partitions,omitzero"` // absent where the GPU has no MIG mode
	Processes      []GPUProcess   `json:"processes"`
	Health         string         `json:"health"`               // healthy, unknown, degraded, needs-reset, lost or host
	SinceMS        *int64         `json:"since_ms,omitempty"`   // when Health was entered
	LastError      string         `json:"last_error,omitempty"` // why it is not healthy, beginning with its code
	Hint           string         `json:"hint,omitempty"`
	Pools          []string       `json:"pools"` // whose masks name it or a partition of it
}

// ECC counts memory errors since the driver was loaded.
type ECC struct {
	Enabled       bool    `json:"enabled"`
	Corrected     *uint64 `json:"corrected,omitempty"`
	Uncorrectable *uint64 `json:"uncorrectable,omitempty"`
}

// RowRemap is the row remapping of a GPU's memory.
type RowRemap struct {
	Corrected     int  `json:"corrected"`
	Uncorrectable int  `json:"uncorrectable"`
	Pending       bool `json:"pending"` // done at the next reset
	Failed        bool `json:"failed"`  // the GPU must be replaced
}

// MIGPartition is one MIG device.
type MIGPartition struct {
	UUID    string `json:"uuid"` // "MIG-…"
	GI      int    `json:"gi"`   // GPU instance
	CI      int    `json:"ci"`   // compute instance
	Profile string `json:"profile,omitempty"`
	VRAM
	Processes []GPUProcess `json:"processes"`
	Pools     []string     `json:"pools"`
}

// GPUProcess is a process that uses memory of a GPU. Pool and replica are absent if it is not an
// engine of ours.
type GPUProcess struct {
	PID       int     `json:"pid"`
	Unit      string  `json:"unit,omitempty"`
	PoolID    string  `json:"pool_id,omitempty"`
	ReplicaID string  `json:"replica_id,omitempty"`
	UsedBytes *uint64 `json:"vram_used_bytes,omitempty"`
}
