package trial

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// statFields returns the fields of /proc/PID/stat behind the program's name, from the state on.
func statFields(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	if !ok {
		return nil, fmt.Errorf("/proc/%d/stat is %q", pid, text)
	}
	return strings.Fields(rest), nil
}

// answer is what share/engine.py and the CUDA programs print as a line of JSON.
type answer struct {
	OK        bool    `json:"ok"`
	PID       int     `json:"pid"`
	Taken     uint64  `json:"taken_bytes"`    // of GPU memory, by what it asked for
	Reserved  uint64  `json:"reserved_bytes"` // by PyTorch's allocator
	Free      uint64  `json:"free_bytes"`     // of the GPU, as CUDA reports it
	Total     uint64  `json:"total_bytes"`
	Seconds   float64 `json:"seconds"` // from the start of the program
	GPUs      int     `json:"gpus"`
	UUID      string  `json:"uuid"`
	Nodes     string  `json:"nodes"` // of /dev that it can open
	Says      string  `json:"says"`
	PeakBytes uint64  `json:"peak_resident_bytes"` // main memory
}

// holder is a process that holds GPU memory until it is ended.
type holder struct {
	cmd *exec.Cmd
	pid int // in this PID namespace
	answer
}

// pytorch is the command of a process that takes so many GiB and keeps them.
func (t Tools) pytorch(gib int) []string {
	return []string{t.Python, t.engine(), "hold", "--gib", fmt.Sprint(gib)}
}

// hold starts a command that takes GPU memory and keeps it.
func hold(ctx context.Context, tools Tools, command []string) (*holder, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(tools.Out, "engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &holder{cmd: cmd, pid: cmd.Process.Pid}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if json.Unmarshal(lines.Bytes(), &h.answer) == nil && h.PID != 0 {
			return h, h.find()
		}
	}
	return nil, fmt.Errorf("%s took no memory: %w (engine.log has its output)", filepath.Base(command[0]), cmd.Wait())
}

// find finds the process in this PID namespace: unshare has it as its child.
func (h *holder) find() error {
	if filepath.Base(h.cmd.Path) != "unshare" {
		return nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", h.pid, h.pid))
	if err != nil {
		return err
	}
	if h.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("children of unshare: %q", text)
	}
	return nil
}

// end sends a signal, and returns how long it took from there until the process was gone and until
// the GPU had this much free memory again.
func (h *holder) end(ctx context.Context, socket string, s syscall.Signal, free uint64) (gone,
	released time.Duration, err error) {
	began := time.Now()
	if err := h.cmd.Process.Signal(s); err != nil {
		return 0, 0, err
	}
	_ = h.cmd.Wait() // it ends by the signal
	gone = time.Since(began)
	err = eventually(ctx, time.Millisecond, func() error {
		d, err := firstDevice(ctx, socket)
		if err == nil && d.Memory.Free+2*mib < free {
			err = fmt.Errorf("%s are free of %s before", size(d.Memory.Free), size(free))
		}
		return err
	})
	return gone, time.Since(began), err
}

// firstDevice is GPU 0, whose memory is known.
func firstDevice(ctx context.Context, socket string) (nvml.Device, error) {
	s, err := snapshot(ctx, socket)
	if err != nil {
		return nvml.Device{}, err
	}
	if len(s.Devices) == 0 || s.Devices[0].Memory == nil {
		return nvml.Device{}, errors.New("pool-gpu reports no memory of GPU 0")
	}
	return s.Devices[0], nil
}

// Memory measures what processes take and release.
func Memory(tools Tools) Step {
	return Step{"Memory, on the host", 90 * time.Second, func(ctx context.Context, t *Table) (err error) {
		t.Header = []string{"a process holds", "the device has less free by", "NVML says of the process",
			"ended by", "process gone", "memory free again"}
		h, err := startHelper(ctx, tools)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.stop()) }()
		for _, c := range takings(tools) {
			if err := measure(ctx, t, tools, h.socket, c); err != nil {
				t.note("%s was not tried: %v.", c.title, err)
			}
		}
		return ctx.Err()
	}}
}

// taking is what one process does.
type taking struct {
	title   string
	command []string
	bytes   uint64
	signal  syscall.Signal // that ends it
}

// takings are those that this host can do.
func takings(tools Tools) []taking {
	var all []taking
	if native := filepath.Join(tools.CUDA, "cuda-native"); exists(native) {
		all = append(all, taking{"64 MiB, CUDA C++", []string{native, "64", "hold"}, 64 * mib, syscall.SIGTERM})
	}
	if tools.Python == "" {
		return all
	}
	apart := append([]string{"unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL"},
		tools.pytorch(4)...)
	return append(all,
		taking{"nothing, PyTorch", tools.pytorch(0), 0, syscall.SIGTERM},
		taking{"4 GiB, PyTorch", tools.pytorch(4), 4 << 30, syscall.SIGTERM},
		taking{"4 GiB, PyTorch in a PID namespace of its own", apart, 4 << 30, syscall.SIGKILL},
		taking{"40 GiB, PyTorch", tools.pytorch(40), 40 << 30, syscall.SIGKILL})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func measure(ctx context.Context, t *Table, tools Tools, socket string, c taking) error {
	before, err := firstDevice(ctx, socket)
	if err != nil {
		return err
	}
	if before.Memory.Free < c.bytes+2<<30 {
		return fmt.Errorf("only %s are free", size(before.Memory.Free))
	}
	p, err := hold(ctx, tools, c.command)
	if err != nil {
		return err
	}
	during, err := firstDevice(ctx, socket)
	if err != nil {
		return err
	}
	used := usedBy(during, p.pid)
	gone, released, err := p.end(ctx, socket, c.signal, before.Memory.Free)
	if err != nil {
		t.fault("%s: the memory is not free again: %v", c.title, err)
	}
	less := before.Memory.Free - during.Memory.Free
	title := c.title
	if p.PID != p.pid {
		title += fmt.Sprintf(" (process %d there, %d here)", p.PID, p.pid)
	}
	t.row(title, size(less), used, c.signal, gone.Round(time.Millisecond), released.Round(time.Millisecond))
	if used == "nothing" {
		t.fault("NVML lists no process %d; it lists %+v", p.pid, during.Processes)
	}
	if got := int64(less) - int64(c.bytes); got < 0 {
		t.fault("pool-gpu reports %s less free memory after a process took %s", size(less), size(c.bytes))
	}
	return nil
}

// usedBy returns what NVML says that a process uses.
func usedBy(d nvml.Device, pid int) string {
	for _, p := range d.Processes {
		if p.PID != pid {
			continue
		}
		if p.Used == nil {
			return "unknown"
		}
		return size(*p.Used)
	}
	return "nothing"
}
