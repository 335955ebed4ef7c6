// Package render turns one replica of a pool into the transient unit that PID 1 runs: a list of
// rows, each with a unit property, the same line in a unit file, and a comment.
//
// Rendering is pure: desired state, a staged model, a prepared engine and facts about the host are
// arguments, and the same values give the same bytes. It owns the contents of an engine's unit and
// what makes two units equal (the spec hash). It must not read a file, call PID 1, use the clock,
// or decide when a unit is started.
package render

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// GatePath is where the package installs the readiness gate.
const GatePath = "/usr/lib/pool-managerd/pool-gate"

// Loopback is the only address that an engine listens on and connects to.
const Loopback = "127.0.0.1"

// Input is everything a unit depends on.
type Input struct {
	Pool     pool.Pool
	Replica  int // its index in the pool
	Side     int // 0 or 1 (blue/green): a reload starts the new engine with the other value
	Staged   pool.Staged
	Prepared pool.Prepared
	Port     int // on the loopback
	Adapter  engine.Adapter
	Host     Host
	// Mask is the replica's device mask, resolved, in its order. It is empty for a CPU replica
	// only.
	Mask []Device
	// Need is checked and reserved before the engine's start; the zero value: not checked.
	Need Need
}

// Need is the memory that an engine needs, in bytes.
type Need struct {
	Devices map[string]uint64 // by the UUID of a GPU or MIG partition
	Host    uint64            // main memory; 0: unknown
	Mapped  uint64            // the part of Host that is mapped
	// Lacked is main memory in place of Host where a load was killed for want of it, none of it
	// mapped. The command line follows Host, so that this changes no unit's identity.
	Lacked uint64
}

// Host describes the machine. The zero value is a host with systemd 252.
type Host struct {
	// ExecFlags: a transient unit's ExecStartEx survives a daemon-reload (257; 252 loses it).
	ExecFlags bool
	// RestartSteps and RestartMaxDelay: PID 1 has RestartSteps= and RestartMaxDelaySec= (254).
	RestartSteps    bool
	RestartMaxDelay bool
	// RandomizedDelay: PID 1 has RestartRandomizedDelaySec= (262).
	RandomizedDelay bool
	// SurviveFinalKill: PID 1 has SurviveFinalKillSignal= (255). SoftReboot: the host's
	// configuration asks that engines keep running over a soft-reboot.
	SurviveFinalKill bool
	SoftReboot       bool
	// TemporaryInMemory: PID 1 has PrivateTmp=disconnected (257). StagingRoot is where an older one
	// builds the file system of a unit; empty: unknown.
	TemporaryInMemory bool
	StagingRoot       string
	// DirectoryQuota: PID 1 has StateDirectoryQuota= (258). StateBytes is the size of the file
	// system with the state directories; 0: unknown.
	DirectoryQuota bool
	StateBytes     uint64
	// VRAMOnly: the host's policy refuses engines that leave a part of a model to the CPU.
	VRAMOnly bool
	// MemoryBytes is the host's main memory; 0: unknown.
	MemoryBytes uint64
	// GatePath is the path of the readiness gate; empty: the constant of that name.
	GatePath string
	// Forwarder is the path of systemd-socket-proxyd; empty: the host has none.
	Forwarder string
}

// Device is a GPU or a MIG partition of an engine.
type Device struct {
	Visible string   // its entry in CUDA_VISIBLE_DEVICES: a full UUID
	Index   int      // NVML's number of the GPU
	Nodes   []string // its own device nodes, without the shared ones
}

// Unit is a rendered unit.
type Unit struct {
	Name     string // pool-engine@….service
	SpecHash string // see SpecHash
	Lines    []Line // in the order in which they are sent and printed
	Port     *Port  // of an engine without a network; nil: it listens on its port itself

	growth growth // of its restart delay
}

// Line is one row of a unit.
type Line struct {
	Section string // "Unit", "Service" or "Socket"
	Key     string // the key in a unit file; empty: only D-Bus has it
	Text    string // the value in a unit file, escaped
	Why     string // the comment, one sentence
	// Property is what is sent to PID 1. Rows of one list property are adjacent, each with its own
	// element.
	Property systemd.Property
}

// Properties returns the arguments of StartTransientUnit, with the rows of a list property joined.
// System call filters are not joined: PID 1 applies an allow and a deny row in order.
func (u Unit) Properties() []systemd.Property {
	var props []systemd.Property
	for _, line := range u.Lines {
		if len(props) > 0 {
			last := &props[len(props)-1]
			if joined, ok := join(*last, line.Property); ok {
				last.Value = joined
				continue
			}
		}
		props = append(props, line.Property)
	}
	return props
}

// join appends b's elements to a's if both are the same list property.
func join(a, b systemd.Property) (any, bool) {
	if a.Name != b.Name {
		return nil, false
	}
	switch v := a.Value.(type) {
	case []string:
		return append(v[:len(v):len(v)], b.Value.([]string)...), true
	case [][]byte:
		return append(v[:len(v):len(v)], b.Value.([][]byte)...), true
	case []systemd.BindMount:
		return append(v[:len(v):len(v)], b.Value.([]systemd.BindMount)...), true
	case []systemd.AddressPrefix:
		return append(v[:len(v):len(v)], b.Value.([]systemd.AddressPrefix)...), true
	case []systemd.PathOptions:
		return append(v[:len(v):len(v)], b.Value.([]systemd.PathOptions)...), true
	case []systemd.EnvironmentFile:
		return append(v[:len(v):len(v)], b.Value.([]systemd.EnvironmentFile)...), true
	case []systemd.PathString:
		return append(v[:len(v):len(v)], b.Value.([]systemd.PathString)...), true
	case []systemd.DevicePermission:
		return append(v[:len(v):len(v)], b.Value.([]systemd.DevicePermission)...), true
	case []systemd.ExecCommand:
		return append(v[:len(v):len(v)], b.Value.([]systemd.ExecCommand)...), true
	case []systemd.PlainCommand:
		return append(v[:len(v):len(v)], b.Value.([]systemd.PlainCommand)...), true
	}
	return nil, false
}

func replica(in Input) pool.Replica {
	return pool.Replica{Pool: in.Pool.ID, Index: in.Replica, Side: in.Side}
}

func instance(in Input) engine.Instance {
	at := engine.Instance{Model: in.Staged.Path, Host: Loopback, Port: in.Port, Socket: engineSocket(in),
		Version: in.Prepared.Version, KeyFile: credentialPath(in)}
	for _, d := range in.Mask {
		at.Devices, at.Indices = append(at.Devices, d.Visible), append(at.Indices, d.Index)
	}
	return at
}

// check rejects what cannot become a unit.
func check(in Input) error {
	switch {
	case in.Pool.Provisioning.Mode == pool.ModeExternal:
		return fmt.Errorf("render %s: the pool's engine is external, at %s; it has no unit", replica(in),
			in.Pool.Provisioning.URL)
	case in.Adapter == nil:
		return fmt.Errorf("render %s: no adapter for engine %q", replica(in), in.Pool.Engine)
	case !pool.ValidID(in.Pool.ID):
		return fmt.Errorf("render: %q is not a pool id", in.Pool.ID)
	case in.Replica < 0:
		return fmt.Errorf("render %s: a replica's index must not be negative", in.Pool.ID)
	case in.Port < 1 || in.Port > 65535:
		return fmt.Errorf("render %s: port %d is not between 1 and 65535", replica(in), in.Port)
	}
	if err := errors.Join(checkMask(in), checkForwarder(in), checkPodman(in), checkDocker(in)); err != nil {
		return err
	}
	refused, err := checkPaths(in)
	if err != nil {
		return err
	}
	return refuse(in.Pool, append(confine.Refusals(in.Pool, in.Adapter), refused...))
}

// refuse combines refusals into one failure; nil if there are none.
func refuse(p pool.Pool, refused []pool.Refusal) error {
	if len(refused) == 0 {
		return nil
	}
	messages, hints := make([]string, len(refused)), make([]string, 0, len(refused)+1)
	for i, r := range refused {
		messages[i] = r.Message
		if !slices.Contains(hints, r.Hint) {
			hints = append(hints, r.Hint)
		}
	}
	if p.Source != "" {
		hints = append(hints, "The file is "+p.Source+".")
	}
	return registry.Fail(registry.CodeConfigInvalid, strings.Join(messages, "; "), strings.Join(hints, " "))
}

// Endpoint returns the URL of the engine's listener.
func Endpoint(port int) string { return "http://" + Loopback + ":" + strconv.Itoa(port) }
