package registry

import "time"

// Health is whether a GPU may be used.
type Health string

// The healths, from the best to the worst.
const (
	HealthOK       Health = "healthy"
	HealthUnknown  Health = "unknown"     // its facts are stale, or it was never seen
	HealthDegraded Health = "degraded"    // it works, and something is wrong with it
	HealthReset    Health = "needs-reset" // no engine may use it until it was reset
	HealthLost     Health = "lost"        // it does not answer
	HealthHost     Health = "host"        // the host must be repaired first: none of its GPUs may be used
)

// Healths lists them, from the best to the worst.
func Healths() []Health {
	return []Health{HealthOK, HealthUnknown, HealthDegraded, HealthReset, HealthLost, HealthHost}
}

// Answers reports whether free memory and utilisation are known of a GPU with this health.
func (h Health) Answers() bool { return h != HealthUnknown && h != HealthLost }

// Clause is the health as the rest of a sentence that begins with the GPU.
func (h Health) Clause() string {
	switch h {
	case HealthReset:
		return "needs a reset"
	case HealthHost:
		return "waits for a repair of the host"
	case HealthUnknown:
		return "does not report"
	}
	return "is " + string(h)
}

// Devices is what is known of this host's GPUs.
type Devices struct {
	Driver  Driver
	Devices []Device
	// Taken is when the facts were read; Stale is why they are not refreshed, nil: they are.
	Taken time.Time
	Stale *Failure
}

// Driver is the NVIDIA driver.
type Driver struct {
	Version, CUDA, Library string
	Failure                *Failure // why it gives no facts; nil: it does
	Problem                string   // the same as a word for programs: no-library, no-driver, …; may be empty
}

// Device is one physical GPU. What it does not report is nil or empty, never 0.
type Device struct {
	UUID              string
	Index             int
	PCI, Name         string
	Minor             *int
	ComputeCapability string
	Memory            *VRAM
	UtilizationPct    *int
	TemperatureC      *int
	PowerState        *int
	PowerMilliwatts   *int
	ECC               *ECC
	Remap             *Remap
	RecoveryAction    string
	MIG               *bool
	Partitions        []Partition
	Processes         []GPUProcess

	Health  Health
	Since   time.Time // when Health was entered
	Failure *Failure  // why it is not healthy
	Pools   []string  // the pools whose masks name it or a partition of it, sorted
}

// VRAM is memory of a GPU or partition, in bytes.
type VRAM struct {
	Total, Free, Used uint64
	Reserved          *uint64
}

// ECC counts memory errors since the driver was loaded.
type ECC struct {
	Enabled                  bool
	Corrected, Uncorrectable *uint64
}

// Remap is the row remapping of a GPU.
type Remap struct {
	Corrected, Uncorrectable int
	Pending, Failed          bool
}

// Partition is one MIG device.
type Partition struct {
	UUID      string
	GI, CI    int
	Profile   string
	Memory    *VRAM
	Processes []GPUProcess
	Pools     []string
}

// GPUProcess is a process that uses memory of a GPU. Pool and Replica are empty if it is not an
// engine of ours.
type GPUProcess struct {
	PID           int
	Unit          string
	Pool, Replica string
	Used          *uint64 // bytes
}

// PoolDevice is a device as a pool shows it, in the order of the pool's masks.
type PoolDevice struct {
	ID                string // as written in the pool file
	UUID              string // empty while it is not resolved
	Name              string
	ComputeCapability string
	Memory            *VRAM
	Health            Health
	Old               bool // Memory.Free is too old to be reported; set by Snapshot.At
}
