package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/memory/shortage"
)

// MemoryOptions are the options of Memory.
type MemoryOptions struct {
	Nodes     []string          // device nodes that the engine is going to open
	Need      map[string]uint64 // bytes by the UUID of a GPU or MIG partition
	Host      uint64            // bytes of main memory; 0: not checked
	Mapped    uint64            // the part of Host that the kernel may drop and read again: it is not needed at once
	Warn      bool              // too little main memory is logged, and does not keep the engine from starting
	MemoryMax uint64            // the unit's own limit in bytes; 0: none
	// how long to retry: a driver releases the memory of a process some time after its end
	Wait   time.Duration
	Socket string // pool-gpu's
	Log    *log.Logger
}

// reserveWithin bounds one request: a start does not wait for a helper that hangs.
const reserveWithin = 2 * time.Second

// reserveAgain is the time between requests while there is too little memory.
const reserveAgain = 500 * time.Millisecond

// Memory runs as ExecStartPre= of an engine's unit, as root, since only root may use the socket. It
// reserves the memory that the engine needs and returns an exit status: ready if the engine may
// start, also if the memory could not be checked; otherwise which memory is short.
//
// A device node that is missing is not waited for here: PID 1 made the rules of the unit's devices
// before this step, and they have no number for a node that comes later. The next start has.
func Memory(ctx context.Context, o MemoryOptions) int {
	if node := missingNode(nvml.ControlNode, o.Nodes); node != "" {
		o.Log.Printf("the device node %s does not exist; the engine could not use its GPU", node)
		return exit.NoNode
	}
	began := time.Now()
	for {
		status, text, final := o.ask(ctx)
		waited := time.Since(began)
		switch {
		case status == exit.Ready:
			if text != "" {
				o.Log.Println(text + after(waited))
			}
			return status
		case ctx.Err() != nil:
			o.Log.Println("terminated while waiting for memory: " + text)
			return exit.Failed
		case final, waited+reserveAgain > o.Wait:
			o.Log.Println(text + after(waited))
			return status
		}
		select {
		case <-ctx.Done():
		case <-time.After(reserveAgain):
		}
	}
}

// missingNode returns the first of some device nodes that does not exist; "": all do, or none is
// known. Where not even the control node is seen, the host has its nodes elsewhere, as a container.
func missingNode(control string, nodes []string) string {
	if len(nodes) == 0 || !isNode(control) {
		return ""
	}
	for _, node := range nodes {
		if !isNode(node) {
			return node
		}
	}
	return ""
}

// isNode reports whether a path is a character device, or this is not known.
func isNode(path string) bool {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil:
		return true
	}
	return info.Mode().Type() == fs.ModeDevice|fs.ModeCharDevice
}

// after returns how long it took, if that is worth a mention.
func after(waited time.Duration) string {
	if waited < reserveAgain {
		return ""
	}
	return fmt.Sprintf(" (after %s)", waited.Round(100*time.Millisecond))
}

// ask checks once; final reports that a retry would not help.
func (o MemoryOptions) ask(ctx context.Context) (status int, text string, final bool) {
	low, refused, final := o.host()
	if refused {
		return exit.InsufficientRAM, low, final
	}
	if low != "" {
		low += "; starting the engine all the same"
	}
	if len(o.Need) == 0 {
		return exit.Ready, low, true
	}
	asked, cancel := context.WithTimeout(ctx, reserveWithin)
	defer cancel()
	reply, err := client.Ask(asked, o.Socket, wire.Request{Op: wire.OpReserve, Needs: o.Need})
	switch {
	case ctx.Err() != nil:
		return exit.Failed, "no answer yet", true
	case err != nil:
		return exit.Ready, "could not check free GPU memory; starting the engine anyway: " + err.Error(), true
	case reply.Granted && low != "":
		return exit.Ready, low + "; reserved GPU memory: " + o.reserved(), true
	case reply.Granted:
		return exit.Ready, "reserved GPU memory: " + o.reserved(), true
	}
	text, final = shortages(reply.Short)
	return exit.InsufficientVRAM, text, final
}

// host checks the main memory, if it can be read. It returns what is too little, whether that keeps
// the engine from starting, and whether a retry would not help.
func (o MemoryOptions) host() (text string, refused, final bool) {
	if o.Host == 0 {
		return "", false, false
	}
	firm := o.Host - min(o.Host, o.Mapped)
	if o.MemoryMax > 0 && o.Host > o.MemoryMax {
		return fmt.Sprintf("too little main memory: the engine needs %s, and its memory_max is %s",
			ram.Size(o.Host), ram.Size(o.MemoryMax)), !o.Warn && firm > o.MemoryMax, true
	}
	available, err := ram.Available()
	if err != nil || o.Host <= available {
		return "", false, false
	}
	return fmt.Sprintf("too little main memory: the engine needs %s, and %s is available",
		ram.Size(o.Host), ram.Size(available)), !o.Warn && firm > available, false
}

func (o MemoryOptions) reserved() string {
	var list []string
	for _, device := range slices.Sorted(maps.Keys(o.Need)) {
		list = append(list, ram.Size(o.Need[device])+" of "+device)
	}
	return strings.Join(list, ", ")
}

// shortages returns one line on all devices with too little memory; final reports that one of them
// would be too small even if it were empty.
func shortages(short []wire.Short) (text string, final bool) {
	clauses := make([]string, len(short))
	for i, s := range short {
		final = final || s.Total > 0 && s.Need > s.Total
		clauses[i] = shortage.Clause(s, s.Device)
	}
	return "too little GPU memory: " + strings.Join(clauses, "; "), final
}

// Release runs as an ExecStartPost= after the readiness gate: the engine has its memory now, so the
// rest of the reservation is free for others. It never fails a start: a reservation that is not
// released expires.
func Release(ctx context.Context, socket string, log *log.Logger) int {
	ctx, cancel := context.WithTimeout(ctx, reserveWithin)
	defer cancel()
	if _, err := client.Ask(ctx, socket, wire.Request{Op: wire.OpRelease}); err != nil {
		log.Println("could not release the GPU memory reservation; it expires by itself: " + err.Error())
	}
	return exit.Ready
}

// ParseNeeds reads DEVICE=BYTES[,DEVICE=BYTES…].
func ParseNeeds(text string) (map[string]uint64, error) {
	needs := make(map[string]uint64)
	for field := range strings.SplitSeq(text, ",") {
		device, number, found := strings.Cut(field, "=")
		bytes, err := strconv.ParseUint(number, 10, 64)
		if !found || device == "" || err != nil || bytes == 0 || bytes > math.MaxInt64 {
			return nil, fmt.Errorf("%q is not of the form DEVICE=BYTES", field)
		}
		if _, twice := needs[device]; twice {
			return nil, fmt.Errorf("device %s is named twice", device)
		}
		needs[device] = bytes
	}
	return needs, nil
}
