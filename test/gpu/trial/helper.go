package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// helper is a pool-gpu that runs as a plain process, with no sandbox.
type helper struct {
	socket string
	cmd    *exec.Cmd
	log    *os.File
	ready  time.Duration // from its start to the first snapshot
}

// startHelper starts pool-gpu and waits for its first snapshot.
func startHelper(ctx context.Context, t Tools) (*helper, error) {
	log, err := os.Create(filepath.Join(t.Out, "pool-gpu.log"))
	if err != nil {
		return nil, err
	}
	h := &helper{socket: filepath.Join(t.Out, "gpu.sock"), log: log}
	h.cmd = exec.Command(t.bin("pool-gpu"), "--socket", h.socket)
	h.cmd.Stderr = log
	began := time.Now()
	if err := h.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	err = eventually(ctx, 2*time.Millisecond, func() error {
		s, err := snapshot(ctx, h.socket)
		if err == nil && s.Driver.Problem != nil {
			err = s.Driver.Problem
		}
		return err
	})
	h.ready = time.Since(began)
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

// stop ends the process and waits for it.
func (h *helper) stop() error {
	err := h.cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, h.cmd.Wait(), h.log.Close())
}

// snapshot asks for a fresh sample, in the way that the manager does.
func snapshot(ctx context.Context, socket string) (nvml.Snapshot, error) {
	reply, err := client.Ask(ctx, socket, wire.Request{Op: wire.OpSnapshot})
	if err != nil {
		return nvml.Snapshot{}, err
	}
	return *reply.Snapshot, nil
}

// compareFigures compares each GPU with nvidia-smi, figure by figure.
func compareFigures(ctx context.Context, t *Table, tools Tools, socket string) error {
	t.Header = []string{"figure", "pool-gpu", "nvidia-smi", ""}
	if tools.SMI == "" {
		return errors.New("no nvidia-smi on this host")
	}
	queries := make([]string, len(figures))
	for i, f := range figures {
		queries[i] = f.query
	}
	rows, err := smi(ctx, tools.SMI, queries)
	if err != nil {
		return err
	}
	s, err := snapshot(ctx, socket)
	if err != nil {
		return err
	}
	if len(rows) != len(s.Devices) {
		t.fault("pool-gpu reports %d GPUs, nvidia-smi %d", len(s.Devices), len(rows))
	}
	uuid := slices.Index(queries, "uuid")
	for _, row := range rows {
		d, ok := s.Device(row[uuid])
		if !ok {
			t.fault("pool-gpu does not report %s", row[uuid])
			continue
		}
		compareDevice(t, tools.Fake, s, d, row)
	}
	return nil
}

func compareDevice(t *Table, fake bool, s nvml.Snapshot, d nvml.Device, row []string) {
	for i, f := range figures {
		var ours string
		if f.ours != nil {
			ours = f.ours(s, d)
		}
		verdict := f.verdict(ours, row[i])
		t.row(f.name, ours, row[i], verdict)
		if verdict == "differs" {
			t.fault("%s of GPU %d: pool-gpu reports %q, nvidia-smi %q", f.name, d.Index, ours, row[i])
		}
	}
	for _, node := range d.Nodes {
		var st syscall.Stat_t
		if err := syscall.Stat(node, &st); err != nil && fake {
			continue
		} else if err != nil {
			t.fault("device node of GPU %d: %v", d.Index, err)
			continue
		}
		t.row("device node", node, fmt.Sprintf("%d:%d, mode %04o", st.Rdev>>8&0xfff, st.Rdev&0xff,
			st.Mode&0o7777), "exists")
	}
	if d.Remap != nil {
		t.row("row remapping", fmt.Sprintf("%+v", *d.Remap), "", "")
	}
	t.row("recovery action", d.Recovery, "", "")
	t.note("CUDA %s, NVML %s; NVML calls that this library lacks: %v.", s.Driver.CUDA, s.Driver.Library,
		s.Driver.Missing)
}

// sampleTimes reports how long samples take.
func sampleTimes(ctx context.Context, t *Table, socket string, rounds int) error {
	took := make([]time.Duration, 0, rounds)
	for range rounds {
		began := time.Now()
		if _, err := snapshot(ctx, socket); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.note("A sample over the socket takes %s (median of %d; the fastest %s, the slowest %s).",
		took[rounds/2].Round(10*time.Microsecond), rounds, took[0].Round(10*time.Microsecond),
		took[rounds-1].Round(10*time.Microsecond))
	return nil
}

// Figures is the comparison of a plain pool-gpu with nvidia-smi.
func Figures(tools Tools) Step {
	return Step{"pool-gpu and nvidia-smi, on the host", 60 * time.Second, func(ctx context.Context,
		t *Table) (err error) {
		h, err := startHelper(ctx, tools)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.stop()) }()
		if err := compareFigures(ctx, t, tools, h.socket); err != nil {
			t.NotRun = err.Error()
		}
		t.note("pool-gpu answers %s after its start.", h.ready.Round(time.Millisecond))
		if err := sampleTimes(ctx, t, h.socket, 200); err != nil {
			return err
		}
		t.note("pool-gpu has used %s of CPU time and %s of memory then.", cpuTime(h.cmd.Process.Pid),
			resident(h.cmd.Process.Pid))
		return nil
	}}
}

// cpuTime returns the CPU time of a process, from /proc/PID/stat.
func cpuTime(pid int) string {
	fields, err := statFields(pid)
	if err != nil || len(fields) < 13 {
		return "an unknown amount"
	}
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if errors.Join(errUser, errSystem) != nil {
		return "an unknown amount"
	}
	return (time.Duration(user+system) * 10 * time.Millisecond).String() // a tick is 10 ms on every Linux
}

// resident returns the resident memory of a process.
func resident(pid int) string {
	fields, err := statFields(pid)
	if err != nil || len(fields) < 22 {
		return "an unknown amount"
	}
	pages, err := strconv.ParseUint(fields[21], 10, 64)
	if err != nil {
		return "an unknown amount"
	}
	return size(pages * uint64(os.Getpagesize()))
}

// size prints bytes as MiB.
func size(bytes uint64) string { return fmt.Sprintf("%d MiB", (bytes+mib/2)/mib) }
