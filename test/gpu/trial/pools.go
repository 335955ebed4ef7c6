package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// poolFile is a pool of the PyTorch server. devices is a list as in the file, "[0]".
func poolFile(tools Tools, devices string, lines []string, args ...string) string {
	command := append([]string{Home + "/share/engine.py", "serve", "--host", "{host}", "--port", "{port}"}, args...)
	return fmt.Sprintf("engine = \"command\"\ndevices = %s\nslots = 2\nargs = %s\n%s\n[provisioning]\nbinary = %q\n"+
		"[health]\npath = \"/health\"\ninterval = \"1s\"\ngenerate_path = \"/generate\"\ngenerate_body = '{}'\n"+
		"[restart]\ninitial = \"500ms\"\n[drain]\ndeadline = \"2s\"\n",
		devices, quoted(command...), strings.Join(lines, "\n"), tools.Python)
}

func isReady(p pool) bool { return p.Ready }

// wholePool runs a pool through its life: ready, devices, memory, a change, a crash and a drain.
func wholePool(ctx context.Context, t *Table, tools Tools) error {
	t.Header = []string{"", "result", "took"}
	if tools.Python == "" {
		return errors.New("no Python with PyTorch on this host")
	}
	before, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	if err := writePools(ctx, map[string]string{"trial": poolFile(tools, "[0]", []string{`vram = "6G"`},
		"--gib", "4")}); err != nil {
		return errors.Join(err, keepJournal(tools))
	}
	p, took, err := waitPool(ctx, "trial", isReady)
	if err != nil {
		t.fault("the pool does not become ready: %v", err)
		return keepJournal(tools)
	}
	t.row("ready", fmt.Sprintf("%s, main process %d", p.Replicas[0].Unit, p.Replicas[0].PID),
		took.Round(10*time.Millisecond))
	if err := poolOnGPU(ctx, t, p); err != nil {
		return err
	}
	if err := printed(ctx, t, tools); err != nil {
		return err
	}
	if err := changeAndCrash(ctx, t, tools); err != nil {
		return err
	}
	began := time.Now()
	if _, err := output(ctx, "poolctl", "drain", "trial", "--wait"); err != nil {
		t.note("poolctl drain: %v", err)
	}
	_, _, err = waitPool(ctx, "trial", func(p pool) bool {
		return !p.Ready && len(p.Replicas) > 0 && p.Replicas[0].PID == 0 || p.State == "stopped"
	})
	if err != nil {
		t.fault("the pool is not stopped by a drain: %v", err)
	}
	t.row("drained and stopped", "", time.Since(began).Round(10*time.Millisecond))
	err = waitFree(ctx, before.Memory.Free)
	t.row("memory of the GPU is free again", err == nil, time.Since(began).Round(10*time.Millisecond))
	return errors.Join(err, writePools(ctx, map[string]string{"trial": ""}), keepJournal(tools))
}

// waitFree waits until the GPU has this much free memory.
func waitFree(ctx context.Context, free uint64) error {
	return eventually(ctx, 5*time.Millisecond, func() error {
		d, err := firstDevice(ctx, wire.Socket)
		if err == nil && d.Memory.Free+2*mib < free {
			err = fmt.Errorf("%s are free of %s before", size(d.Memory.Free), size(free))
		}
		return err
	})
}

// poolOnGPU checks whose the memory on the GPU is found to be.
func poolOnGPU(ctx context.Context, t *Table, p pool) error {
	d, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	t.row("NVML lists", listed(d.Processes), "")
	i := slices.IndexFunc(d.Processes, func(q nvml.Process) bool { return q.PID == p.Replicas[0].PID })
	switch {
	case i < 0:
		t.fault("NVML lists no process %d, the pool's", p.Replicas[0].PID)
	case d.Processes[i].Unit != p.Replicas[0].Unit:
		t.fault("process %d is said to be in %q, and is in %q", p.Replicas[0].PID, d.Processes[i].Unit,
			p.Replicas[0].Unit)
	case d.Processes[i].Used == nil || *d.Processes[i].Used < 4<<30:
		t.fault("the pool holds 4 GiB, and NVML says %s", usedBy(d, p.Replicas[0].PID))
	}
	return nil
}

// listed prints processes as NVML lists them, with the unit that each belongs to.
func listed(all []nvml.Process) string {
	var text []string
	for _, p := range all {
		used := "an unknown amount"
		if p.Used != nil {
			used = size(*p.Used)
		}
		text = append(text, fmt.Sprintf("%d (%s) with %s", p.PID, p.Unit, used))
	}
	if text == nil {
		return "none"
	}
	return strings.Join(text, ", ")
}

// printed keeps what poolctl prints.
func printed(ctx context.Context, t *Table, tools Tools) error {
	for _, command := range [][]string{
		{"devices"}, {"devices", "--processes"}, {"fit", Home + "/share/tiny.gguf"},
		{"list"}, {"status", "trial"}, {"render", "trial"},
	} {
		text, err := output(ctx, "poolctl", command...)
		name := "poolctl-" + slug(strings.Join(command, "-")) + ".txt"
		if err != nil {
			t.note("poolctl %s: %v", strings.Join(command, " "), err)
		}
		if err := keep(tools, name, text); err != nil {
			return err
		}
	}
	return nil
}

// changeAndCrash reloads the pool with another argument, and lets its engine crash.
func changeAndCrash(ctx context.Context, t *Table, tools Tools) error {
	old, _, err := waitPool(ctx, "trial", isReady)
	if err != nil {
		return err
	}
	if err := writePools(ctx, map[string]string{"trial": poolFile(tools, "[0]", []string{`vram = "6G"`},
		"--gib", "3")}); err != nil {
		return err
	}
	changed := func(p pool) bool {
		return p.Ready && len(p.Replicas) == 1 && p.Replicas[0].PID != old.Replicas[0].PID && p.Replicas[0].PID != 0
	}
	p, took, err := waitPool(ctx, "trial", changed)
	if err != nil {
		t.fault("the pool does not become ready after a reload: %v", err)
		return keepJournal(tools)
	}
	t.row("changed by a reload, ready again", fmt.Sprintf("%s, main process %d", p.Replicas[0].Unit,
		p.Replicas[0].PID), took.Round(10*time.Millisecond))
	crash(ctx, p)
	old = p
	failed, _, err := waitPool(ctx, "trial", func(p pool) bool { return !p.Ready })
	if err != nil {
		return err
	}
	again, took, err := waitPool(ctx, "trial", changed)
	if err != nil {
		t.fault("the pool does not become ready after a crash: %v", err)
		return keepJournal(tools)
	}
	t.row("crashed (exit status 7), ready again", fmt.Sprintf("%s; restarts: %d", failed.LastError,
		again.RestartCount), took.Round(10*time.Millisecond))
	return nil
}

// crash asks the engine to exit. There is no answer.
func crash(ctx context.Context, p pool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Replicas[0].Endpoint+"/crash", nil)
	if err != nil {
		return
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// shared runs two pools on one GPU, and then one that asks for more than there is.
func shared(ctx context.Context, t *Table, tools Tools) error {
	t.Header = []string{"", "result", "took"}
	both := []string{"shared = true", `vram = "4G"`}
	if err := writePools(ctx, map[string]string{"one": poolFile(tools, "[0]", both, "--gib", "2"),
		"two": poolFile(tools, "[0]", both, "--gib", "3")}); err != nil {
		return err
	}
	for _, id := range []string{"one", "two"} {
		p, took, err := waitPool(ctx, id, isReady)
		if err != nil {
			t.fault("pool %s does not become ready: %v", id, err)
			return keepJournal(tools)
		}
		t.row("pool "+id+" is ready", fmt.Sprintf("main process %d", p.Replicas[0].PID),
			took.Round(10*time.Millisecond))
		if err := poolShares(ctx, t, p); err != nil {
			return err
		}
	}
	d, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	t.row("NVML lists", listed(d.Processes), "")
	text, err := output(ctx, "poolctl", "devices", "--processes")
	if err := errors.Join(err, keep(tools, "poolctl-devices-shared.txt", text)); err != nil {
		return err
	}
	if err := writePools(ctx, map[string]string{"one": "", "two": "", "large": poolFile(tools, "[0]",
		[]string{`vram = "1G"`}, "--gib", "300")}); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	p, took, err := waitPool(limited, "large", func(p pool) bool {
		return strings.HasPrefix(p.LastError,
			"CUDA_OOM")
	})
	t.row("an engine that asks for 300 GiB", p.LastError, took.Round(10*time.Millisecond))
	if err != nil || !strings.HasPrefix(p.LastError, "CUDA_OOM") {
		t.fault("out of memory is reported as %q", p.LastError)
	}
	if err := tooLarge(ctx, t, tools); err != nil {
		return err
	}
	return errors.Join(writePools(ctx, map[string]string{"large": "", "waits": ""}), keepJournal(tools))
}

// poolShares checks that the pool's process is on the GPU, in its unit.
func poolShares(ctx context.Context, t *Table, p pool) error {
	d, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	for _, q := range d.Processes {
		if q.PID == p.Replicas[0].PID && q.Unit == p.Replicas[0].Unit {
			return nil
		}
	}
	t.fault("process %d of %s is not among %s", p.Replicas[0].PID, p.Replicas[0].Unit, listed(d.Processes))
	return nil
}

// tooLarge has a pool ask for more memory than the GPU has: it waits and is not started.
func tooLarge(ctx context.Context, t *Table, tools Tools) error {
	d, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	need := fmt.Sprintf("vram = \"%dG\"", d.Memory.Free>>30+2)
	if err := writePools(ctx, map[string]string{"large": "", "waits": poolFile(tools, "[0]", []string{need},
		"--gib", "1")}); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	p, took, err := waitPool(limited, "waits", func(p pool) bool {
		return strings.HasPrefix(p.LastError,
			"INSUFFICIENT_VRAM")
	})
	t.row("a pool that needs 2 GiB more than is free", p.LastError, took.Round(10*time.Millisecond))
	if err != nil || !strings.HasPrefix(p.LastError, "INSUFFICIENT_VRAM") {
		t.fault("too little memory is reported as %q (%v)", p.LastError, err)
	}
	return nil
}
