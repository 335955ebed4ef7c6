package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

// usage lists the commands. GPU is an index; BYTES a number of bytes.
const usage = `show                        the state as the library reads it
xid GPU CODE [PID [GI CI]]  an Xid, of a MIG instance or of the GPU: a driver event, and the kernel's line; PID 0 is not known
ecc GPU                     an uncorrectable memory error, with its event
unavailable GPU             the event that the GPU cannot be reached
recovery GPU ACTION         what the driver advises (0 none, 1 reset, 2 reboot), with its event
lose GPU | restore GPU      every call says GPU_IS_LOST, or works again
hog GPU BYTES | unhog GPU   a foreign process holds memory, or no longer
hold GPU BYTES PID          the process holds memory | drop GPU PID: no longer
list GPU MODE               its processes are listed: 0 all, 1 none, 3 not supported, 4 no permission
late DURATION               memory is released so long after a process ended
hang CALL | unhang          an NVML call does not return
latency DURATION            each NVML call takes so long
init CODE                   what nvmlInit returns: 0, 4, 9 or 18
replace VERSION             another driver is loaded: processes that began before get a mismatch
`

// hogPID is the process that a hogged GPU shows: PID 1, which is there in every machine.
const hogPID = 1

// command serves one connection of ctl.
func (d *driver) command(_ context.Context, c *net.UnixConn) {
	var args []string
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&args); err != nil {
		return
	}
	text, err := d.run(args)
	answer := struct{ Text, Error string }{Text: text}
	if err != nil {
		answer.Error = err.Error()
	}
	_ = json.NewEncoder(c).Encode(answer)
}

func (d *driver) run(args []string) (string, error) {
	if len(args) == 0 {
		return usage, nil
	}
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch args[0] {
	case "show":
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.now.String(), nil
	case "late", "latency":
		return "", d.runTimed(args[0], arg(1))
	case "hang":
		if arg(1) == "" {
			return "", errors.New("hang wants the name of an NVML call, such as nvmlDeviceGetUtilizationRates")
		}
		return "", d.change(func(s *fakenvml.State) error { s.Hang = arg(1); return nil })
	case "unhang":
		return "", d.change(func(s *fakenvml.State) error { s.Hang = ""; return nil })
	case "init":
		code, err := strconv.Atoi(arg(1))
		if err != nil {
			return "", fmt.Errorf("init wants a number, such as 9: %w", err)
		}
		return "", d.change(func(s *fakenvml.State) error { s.Init = code; return nil })
	case "replace":
		return "", d.change(func(s *fakenvml.State) error {
			s.Driver, s.Library = arg(1), "12."+arg(1)
			s.Generation++
			return nil
		})
	}
	index, err := strconv.Atoi(arg(1))
	if err != nil {
		return "", fmt.Errorf("%q is no GPU's index; the commands are:\n%s", arg(1), usage)
	}
	return "", d.runOnGPU(args[0], index, args[2:])
}

// runTimed carries out what takes a duration.
func (d *driver) runTimed(command, value string) error {
	duration, err := time.ParseDuration(value)
	if err != nil || duration < 0 {
		return fmt.Errorf("%s wants a duration, such as 1.5s: %q", command, value)
	}
	return d.change(func(s *fakenvml.State) error {
		if command == "late" {
			d.late = duration
		} else {
			s.Latency = int(duration.Microseconds())
		}
		return nil
	})
}

// operands are the least and the most numbers that a command takes behind the GPU's index.
var operands = map[string][2]int{
	"xid": {1, 4}, "ecc": {0, 0}, "unavailable": {0, 0}, "recovery": {1, 1}, "lose": {0, 0}, "restore": {0, 0}, "hog": {1, 1}, "unhog": {0, 0}, "hold": {2, 2}, "drop": {1, 1}, "list": {1, 1},
}

// numbers reads the operands of a command.
func numbers(command string, words []string) ([]uint64, error) {
	want, ok := operands[command]
	if !ok {
		return nil, fmt.Errorf("unknown command %q; the commands are:\n%s", command, usage)
	}
	if len(words) < want[0] || len(words) > want[1] || command == "xid" && len(words) == 3 {
		return nil, fmt.Errorf("%s has %d operands behind the GPU; the commands are:\n%s", command, len(words), usage)
	}
	values := make([]uint64, len(words))
	for i, w := range words {
		var err error
		if values[i], err = strconv.ParseUint(w, 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %q is no number", command, w)
		}
	}
	return values, nil
}

// runOnGPU carries out what concerns one GPU.
func (d *driver) runOnGPU(command string, index int, words []string) error {
	values, err := numbers(command, words)
	if err != nil {
		return err
	}
	var event fakenvml.Event
	var pci string
	err = d.change(func(s *fakenvml.State) error {
		if index < 0 || index >= len(s.GPUs) {
			return fmt.Errorf("there is no GPU %d", index)
		}
		g := &s.GPUs[index]
		pci = g.PCI
		event = alter(command, g, values)
		return nil
	})
	if err != nil || event.Kind == "" {
		return err
	}
	if event.Kind == "xid" {
		pid := uint64(0)
		if len(values) > 1 {
			pid = values[1]
		}
		logKernel(kernelLine(pci, event, pid))
	}
	return event.Append(d.dir)
}

// alter changes a GPU and returns the event that goes with it; its Kind is empty where none does.
func alter(command string, g *fakenvml.GPU, values []uint64) fakenvml.Event {
	event := fakenvml.Event{UUID: g.UUID, GI: -1, CI: -1}
	switch command {
	case "xid":
		event.Kind, event.Data = "xid", values[0]
		if len(values) == 4 {
			event.GI, event.CI = int(values[2]), int(values[3])
		}
	case "ecc":
		event.Kind = "ecc"
		if g.ECC == nil {
			g.ECC = &fakenvml.ECC{On: true}
		}
		g.ECC = &fakenvml.ECC{On: true, Corrected: g.ECC.Corrected, Uncorrectable: g.ECC.Uncorrectable + 1}
	case "unavailable":
		event.Kind = "unavailable"
	case "recovery":
		event.Kind, event.Data = "recovery", values[0]
		action := int(values[0])
		g.Recovery = &action
	case "lose":
		g.Problem = 15 // NVML_ERROR_GPU_IS_LOST
	case "restore":
		none := 0
		g.Problem, g.Recovery = 0, &none
	case "hog":
		releaseGPU(g, hogPID)
		g.Processes = append(g.Processes, fakenvml.Process{PID: hogPID, Used: values[0]})
	case "unhog":
		releaseGPU(g, hogPID)
	case "hold":
		g.Processes = append(g.Processes, fakenvml.Process{PID: int(values[1]), Used: values[0]})
	case "drop":
		releaseGPU(g, int(values[0]))
	case "list":
		g.List = int(values[0])
	}
	return event
}

func releaseGPU(g *fakenvml.GPU, pid int) {
	var others []fakenvml.Process
	for _, p := range g.Processes {
		if p.PID != pid {
			others = append(others, p)
		}
	}
	g.Processes = others
}

// kernelLine is what the real driver logs of an Xid. The bus id there has four digits of the domain
// and no function.
func kernelLine(pci string, xid fakenvml.Event, pid uint64) string {
	place := strings.TrimSuffix(strings.TrimPrefix(pci, "0000"), ".0")
	if xid.GI >= 0 {
		place += fmt.Sprintf(" GPU-I:%02d GPU-CI:%02d", xid.GI, xid.CI)
	}
	process := "'<unknown>'"
	if pid > 0 {
		process = strconv.FormatUint(pid, 10)
	}
	return fmt.Sprintf("NVRM: Xid (PCI:%s): %d, pid=%s, name=stubengine, fake", place, xid.Data, process)
}

// logKernel writes a line where the kernel's log can be written to: in a container it often cannot.
// journald takes the first word of what a program writes there for its name.
func logKernel(line string) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "<3>kernel: %s\n", line)
}
