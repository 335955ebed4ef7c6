package gate

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/memory/shortage"
)

// MemoryOptions of the step before an engine's start.
type MemoryOptions struct {
	Need      map[string]uint64 // bytes by the UUID of a GPU or MIG partition
	Host      uint64            // bytes of main memory; 0: not checked
	MemoryMax uint64            // the unit's own limit in bytes; 0: none
	// how long to ask again: a driver gives the memory of a process back some time after its end
	Wait   time.Duration
	Socket string // of pool-gpu
	Log    *log.Logger
}

// reserveWithin bounds one question. A start does not wait for a helper that is ill.
const reserveWithin = 2 * time.Second

// reserveAgain is the time between questions while there is too little.
const reserveAgain = 500 * time.Millisecond

// Memory runs as ExecStartPre= of an engine's unit, as root, since the socket is root's. It has
// pool-gpu promise the unit the memory that it needs, and returns an exit status: ready where it
// may start, also where nobody can tell; else which memory is short.
func Memory(ctx context.Context, o MemoryOptions) int {
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
			o.Log.Println("told to end while there was too little memory: " + text)
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

// after says how long it took, where that was long enough to wonder about.
func after(waited time.Duration) string {
	if waited < reserveAgain {
		return ""
	}
	return fmt.Sprintf(" (after %s)", waited.Round(100*time.Millisecond))
}

// ask checks once; final says that asking again is of no use.
func (o MemoryOptions) ask(ctx context.Context) (status int, text string, final bool) {
	if text, final := o.host(); text != "" {
		return exit.InsufficientRAM, text, final
	}
	if len(o.Need) == 0 {
		return exit.Ready, "", true
	}
	asked, cancel := context.WithTimeout(ctx, reserveWithin)
	defer cancel()
	reply, err := client.Ask(asked, o.Socket, wire.Request{Op: wire.OpReserve, Needs: o.Need})
	switch {
	case ctx.Err() != nil:
		return exit.Failed, "no answer yet", true
	case errors.Is(err, client.ErrNoAnswer):
		return exit.Ready, "the GPU memory was not checked, and the start goes on: " + err.Error(), true
	case err != nil: // the driver gives no facts, or knows no such device: the engine will tell
		return exit.Ready, "the GPU memory could not be checked, and the start goes on: " + err.Error(), true
	case reply.Granted:
		return exit.Ready, "GPU memory is promised: " + o.promised(), true
	}
	text, final = shortages(reply.Short)
	return exit.InsufficientVRAM, text, final
}

// host checks the main memory. What cannot be read is not checked.
func (o MemoryOptions) host() (text string, final bool) {
	if o.Host == 0 {
		return "", false
	}
	if o.MemoryMax > 0 && o.Host > o.MemoryMax {
		return fmt.Sprintf("too little main memory: the engine needs %s, and its memory_max is %s", ram.Size(o.Host),
			ram.Size(o.MemoryMax)), true
	}
	available, err := ram.Available()
	if err != nil || o.Host <= available {
		return "", false
	}
	return fmt.Sprintf("too little main memory: the engine needs %s, and %s is available", ram.Size(o.Host),
		ram.Size(available)), false
}

func (o MemoryOptions) promised() string {
	var list []string
	for _, device := range slices.Sorted(maps.Keys(o.Need)) {
		list = append(list, ram.Size(o.Need[device])+" of "+device)
	}
	return strings.Join(list, ", ")
}

// shortages is one line on all devices that are short; final says that one of them would be too
// small even if it were empty.
func shortages(short []wire.Short) (text string, final bool) {
	clauses := make([]string, len(short))
	for i, s := range short {
		final = final || s.Total > 0 && s.Need > s.Total
		clauses[i] = shortage.Clause(s, s.Device)
	}
	return "too little GPU memory: " + strings.Join(clauses, "; "), final
}

// Release runs as a further ExecStartPost= behind the readiness gate: the engine holds what it
// needs now, so that the rest of the promise is free for others. It never fails a start: a promise
// that is not given back ends by itself.
func Release(ctx context.Context, socket string, log *log.Logger) int {
	ctx, cancel := context.WithTimeout(ctx, reserveWithin)
	defer cancel()
	if _, err := client.Ask(ctx, socket, wire.Request{Op: wire.OpRelease}); err != nil {
		log.Println("the promise of GPU memory was not given back, and ends by itself: " + err.Error())
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
