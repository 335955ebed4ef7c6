package main

import (
	"bufio"
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
xid GPU CODE [PID]          an Xid: a driver event, and the kernel's line
ecc GPU                     an uncorrectable memory error
recovery GPU ACTION         what the driver advises (0 none, 1 reset, 2 reboot), with its event
lose GPU | restore GPU      every call says GPU_IS_LOST, or works again
hog GPU BYTES | unhog GPU   a foreign process holds memory, or no more
late DURATION               memory is given back so long after a process ended
hang CALL | unhang          an NVML call does not return
init CODE                   what nvmlInit returns: 0, 4, 9 or 18
replace VERSION             another driver is loaded: processes that began before get a mismatch
`

// hogPID is the process that a hogged GPU shows: PID 1, which is there in every machine.
const hogPID = 1

// command serves one connection of ctl.
func (d *driver) command(c *net.UnixConn) {
	var args []string
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&args); err != nil {
		return
	}
	text, err := d.obey(args)
	answer := struct{ Text, Error string }{Text: text}
	if err != nil {
		answer.Error = err.Error()
	}
	_ = json.NewEncoder(c).Encode(answer)
}

func (d *driver) obey(args []string) (string, error) {
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
	case "late":
		late, err := time.ParseDuration(arg(1))
		d.mu.Lock()
		defer d.mu.Unlock()
		d.late = late
		return "", err
	case "hang", "unhang":
		return "", d.change(func(s *fakenvml.State) error { s.Hang = arg(1); return nil })
	case "init":
		code, err := strconv.Atoi(arg(1))
		return "", errors.Join(err, d.change(func(s *fakenvml.State) error { s.Init = code; return nil }))
	case "replace":
		return "", d.change(func(s *fakenvml.State) error { s.Driver, s.Library = arg(1), "12."+arg(1); s.Generation++; return nil })
	}
	index, err := strconv.Atoi(arg(1))
	if err != nil {
		return "", fmt.Errorf("%q is no GPU's index; the commands are:\n%s", arg(1), usage)
	}
	return "", d.obeyGPU(args[0], index, arg(2), arg(3))
}

// obeyGPU carries out what concerns one GPU.
func (d *driver) obeyGPU(command string, index int, first, second string) error {
	value, _ := strconv.ParseUint(first, 10, 64)
	var event *fakenvml.Event
	err := d.change(func(s *fakenvml.State) error {
		if index < 0 || index >= len(s.GPUs) {
			return fmt.Errorf("there is no GPU %d", index)
		}
		g := &s.GPUs[index]
		event = &fakenvml.Event{UUID: g.UUID, Data: value, GI: -1, CI: -1}
		return alter(command, g, event, value)
	})
	if err != nil {
		return err
	}
	if event.Kind == "xid" {
		d.mu.Lock()
		pci := d.now.GPUs[index].PCI
		d.mu.Unlock()
		kernel(pci, first, second)
	}
	if event.Kind == "" {
		return nil
	}
	return event.Append(d.dir)
}

// alter changes a GPU and names the event that goes with it.
func alter(command string, g *fakenvml.GPU, event *fakenvml.Event, value uint64) error {
	switch command {
	case "xid":
		event.Kind = "xid"
	case "ecc":
		event.Kind = "ecc"
		if g.ECC == nil {
			g.ECC = &fakenvml.ECC{On: true}
		}
		g.ECC = &fakenvml.ECC{On: true, Corrected: g.ECC.Corrected, Uncorrectable: g.ECC.Uncorrectable + 1}
	case "recovery":
		event.Kind = "recovery"
		action := int(value)
		g.Recovery = &action
	case "lose":
		g.Problem = 15 // NVML_ERROR_GPU_IS_LOST
	case "restore":
		none := 0
		g.Problem, g.Recovery = 0, &none
	case "hog":
		giveBackGPU(g)
		g.Processes = append(g.Processes, fakenvml.Process{PID: hogPID, Used: value})
	case "unhog":
		giveBackGPU(g)
	default:
		return fmt.Errorf("unknown command %q; the commands are:\n%s", command, usage)
	}
	return nil
}

func giveBackGPU(g *fakenvml.GPU) {
	var others []fakenvml.Process
	for _, p := range g.Processes {
		if p.PID != hogPID {
			others = append(others, p)
		}
	}
	g.Processes = others
}

// kernel writes the line that the real driver logs, where the kernel's log can be written to: in a container it often cannot. journald takes
// the first word of what a program writes there for its name.
func kernel(pci, code, pid string) {
	if pid == "" {
		pid = "'<unknown>'"
	}
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	place := strings.TrimSuffix(strings.TrimPrefix(pci, "0000"), ".0")
	fmt.Fprintf(f, "<3>kernel: NVRM: Xid (PCI:%s): %s, pid=%s, name=stubengine, fake\n", place, code, pid)
}
