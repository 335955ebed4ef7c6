// Package fakenvml builds a fake libnvidia-ml.so.1 out of the C files beside it, and writes the
// state that it answers from. It replaces GPUs, which no test machine has; everything above it,
// from the dynamic loader to the daemon, is real.
//
// It owns the format of that state. It must not know the product: what the library returns is
// written from NVML's public header.
package fakenvml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Dir is where the library looks for the state, unless the environment variable FAKENVML_DIR names
// another directory.
const Dir = "/run/fakegpu"

// The files in it.
const (
	StateFile  = "state"
	EventsFile = "events"
)

// State is everything that the fake driver reports. A nil pointer means "not supported".
type State struct {
	Driver, Library string
	CUDA            int    // 12040 is 12.4
	Init            int    // what nvmlInit returns: an nvmlReturn_t
	Generation      int    // a process that started with another generation gets LIB_RM_VERSION_MISMATCH
	Hang            string // the call that does not return
	Latency         int    // microseconds that each call takes
	GPUs            []GPU
}

// GPU is one GPU.
type GPU struct {
	UUID, Name, PCI                 string
	Minor                           *int
	Major, MinorCC                  int // compute capability; Major 0: not supported
	Total, Reserved                 uint64
	Utilization, Temperature, State *int
	Power                           *int
	ECC                             *ECC
	Remap                           *[4]int // corrected, uncorrectable, pending, failed
	Recovery                        *int    // NVML_GPU_RECOVERY_ACTION_*
	MIG                             *bool
	Problem                         int // what every call about it returns: 15 is lost
	List                            int // how its processes are listed: Shown, Hidden, or what the calls return
	Partitions                      []Partition
	Processes                       []Process
}

// How a GPU's processes are listed, those of its partitions included. Another number is an
// nvmlReturn_t: 3 is not supported, 4 no permission.
const (
	Shown  = 0
	Hidden = 1 // the list is empty, as in a container; their memory is in use all the same
)

// ECC is error correction with its volatile counters.
type ECC struct {
	On                       bool
	Corrected, Uncorrectable uint64
}

// Partition is a MIG device.
type Partition struct {
	UUID, Profile  string
	GI, CI, Slices int
	Total          uint64
	Processes      []Process
}

// Process uses memory.
type Process struct {
	PID  int
	Used uint64
}

// String is the state in the library's format: a key and its value a line; "gpu" begins a GPU,
// "partition" a partition of it.
func (s State) String() string {
	var b strings.Builder
	line := func(key string, values ...any) {
		b.WriteString(key)
		for _, v := range values {
			fmt.Fprintf(&b, " %v", v)
		}
		b.WriteByte('\n')
	}
	line("driver", s.Driver)
	line("library", s.Library)
	line("cuda", s.CUDA)
	line("init", s.Init)
	line("generation", s.Generation)
	if s.Hang != "" {
		line("hang", s.Hang)
	}
	if s.Latency > 0 {
		line("latency", s.Latency)
	}
	for _, g := range s.GPUs {
		g.write(line)
	}
	return b.String()
}

func (g GPU) write(line func(string, ...any)) {
	line("gpu")
	line("uuid", g.UUID)
	line("name", g.Name)
	line("pci", g.PCI)
	optional(line, "minor", g.Minor)
	if g.Major > 0 {
		line("cc", g.Major, g.MinorCC)
	}
	line("memory", g.Total, g.Reserved)
	optional(line, "utilization", g.Utilization)
	optional(line, "temperature", g.Temperature)
	optional(line, "pstate", g.State)
	optional(line, "power", g.Power)
	if e := g.ECC; e != nil {
		line("ecc", number(e.On), e.Corrected, e.Uncorrectable)
	}
	if r := g.Remap; r != nil {
		line("remap", r[0], r[1], r[2], r[3])
	}
	optional(line, "recovery", g.Recovery)
	if g.MIG != nil {
		line("mig", number(*g.MIG))
	}
	line("problem", g.Problem)
	if g.List != Shown {
		line("list", g.List)
	}
	processes(line, g.Processes)
	for _, p := range g.Partitions {
		line("partition")
		line("uuid", p.UUID)
		line("profile", p.Profile)
		line("instance", p.GI, p.CI, p.Slices)
		line("memory", p.Total)
		processes(line, p.Processes)
	}
}

func optional(line func(string, ...any), key string, value *int) {
	if value != nil {
		line(key, *value)
	}
}

func processes(line func(string, ...any), list []Process) {
	for _, p := range list {
		line("process", p.PID, p.Used)
	}
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Write publishes the state atomically.
func (s State) Write(dir string) error {
	next := filepath.Join(dir, StateFile+".new")
	if err := os.WriteFile(next, []byte(s.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, StateFile))
}

// Event is one driver event.
type Event struct {
	Kind   string // xid, ecc, unavailable, recovery
	UUID   string // of the physical GPU
	Data   uint64 // the Xid, or the recovery action
	GI, CI int    // −1: the whole GPU
}

// Append sends the event to every process that listens.
func (e Event) Append(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, EventsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s %d %d %d\n", e.Kind, e.UUID, e.Data, e.GI, e.CI)
	return errors.Join(err, f.Close())
}

// Default returns a host with n healthy idle GPUs of so many bytes each.
func Default(n int, bytes uint64) State {
	s := State{Driver: "550.54.14", Library: "12.550.54.14", CUDA: 12040, Generation: 1}
	for i := range n {
		s.GPUs = append(s.GPUs, GPU{
			UUID: UUID(i), Name: "NVIDIA Fake GPU", PCI: fmt.Sprintf("00000000:%02x:00.0", 0x41+i), Minor: ptr(i),
			Major: 8, MinorCC: 6,
			Total: bytes, Reserved: 512 << 20, Utilization: ptr(0), Temperature: ptr(38 + i), State: ptr(8),
			Power: ptr(21000),
			Remap: &[4]int{}, Recovery: ptr(0),
		})
	}
	return s
}

// UUID returns the UUID of the GPU with that index.
func UUID(index int) string {
	return fmt.Sprintf("GPU-%08x-fa4e-4b1d-8000-%012x", 0x5eed0000+index*0x11, index)
}

// Cut puts a GPU into MIG mode, in n equal partitions.
func (g *GPU) Cut(n int) {
	on := true
	g.MIG, g.Utilization, g.Partitions = &on, nil, nil
	for i := range n {
		g.Partitions = append(g.Partitions, Partition{
			UUID:    fmt.Sprintf("MIG-%08x-%s", i+1, g.UUID[len("GPU-00000000-"):]),
			Profile: fmt.Sprintf("1g.%dgb", g.Total>>30/uint64(n)),
			GI:      7 + i, CI: 0, Slices: 1, Total: g.Total / uint64(n),
		})
	}
}

func ptr[T any](v T) *T { return &v }
