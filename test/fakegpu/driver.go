package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

// driver is the state of the GPUs. Its methods may be called at the same time.
type driver struct {
	dir  string
	mu   sync.Mutex
	now  fakenvml.State
	late time.Duration // how long after the end of a process its memory is released
}

func newDriver(dir string, s fakenvml.State) *driver { return &driver{dir: dir, now: s} }

// write puts the state in force; the caller holds the lock, or is alone.
func (d *driver) write() error { return d.now.Write(d.dir) }

// change alters the state and puts it in force.
func (d *driver) change(f func(*fakenvml.State) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := f(&d.now); err != nil {
		return err
	}
	return d.write()
}

// take serves one engine: it gets memory, and keeps it until its connection ends, or ctx.
func (d *driver) take(ctx context.Context, c *net.UnixConn) {
	pid := peer(c)
	line, err := bufio.NewReader(io.LimitReader(c, 1<<16)).ReadBytes('\n')
	if err != nil {
		return
	}
	var wish map[string]uint64
	if err := json.Unmarshal(line, &wish); err != nil {
		fmt.Fprintln(c, "not understood:", err)
		return
	}
	if err := d.change(func(s *fakenvml.State) error { return give(s, pid, wish) }); err != nil {
		fmt.Fprintln(c, err)
		return
	}
	fmt.Fprintln(c, "ok")
	_, _ = io.Copy(io.Discard, c) // until the engine ends
	d.mu.Lock()
	late := d.late
	d.mu.Unlock()
	select {
	case <-time.After(late):
	case <-ctx.Done():
	}
	_ = d.change(func(s *fakenvml.State) error { giveBack(s, pid, wish); return nil })
}

// peer is the process at the other end, 0 where the kernel does not tell.
func peer(c *net.UnixConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// holder is where memory is taken from: a GPU or a partition.
type holder struct {
	total     uint64
	reserved  uint64
	processes *[]fakenvml.Process
}

// find returns the GPU or partition of a UUID.
func find(s *fakenvml.State, uuid string) (holder, bool) {
	for i := range s.GPUs {
		g := &s.GPUs[i]
		if strings.EqualFold(g.UUID, uuid) {
			return holder{g.Total, g.Reserved, &g.Processes}, true
		}
		for j := range g.Partitions {
			if p := &g.Partitions[j]; strings.EqualFold(p.UUID, uuid) {
				return holder{p.Total, 0, &p.Processes}, true
			}
		}
	}
	return holder{}, false
}

func (h holder) free() uint64 {
	used := h.reserved
	for _, p := range *h.processes {
		used += p.Used
	}
	if used > h.total {
		return 0
	}
	return h.total - used
}

// give lets a process have all that it wishes for, or nothing.
func give(s *fakenvml.State, pid int, wish map[string]uint64) error {
	for uuid, bytes := range wish {
		h, ok := find(s, uuid)
		if !ok {
			return fmt.Errorf("no CUDA-capable device is detected (%s)", uuid)
		}
		if h.free() < bytes {
			return fmt.Errorf("out of memory")
		}
	}
	for uuid, bytes := range wish {
		h, _ := find(s, uuid)
		*h.processes = append(slices.Clone(*h.processes), fakenvml.Process{PID: pid, Used: bytes})
	}
	return nil
}

// giveBack takes from a process what one of its connections was given, and nothing of another's.
func giveBack(s *fakenvml.State, pid int, wish map[string]uint64) {
	for uuid, bytes := range wish {
		h, ok := find(s, uuid)
		if !ok {
			continue
		}
		if i := slices.Index(*h.processes, fakenvml.Process{PID: pid, Used: bytes}); i >= 0 {
			*h.processes = slices.Delete(slices.Clone(*h.processes), i, i+1)
		}
	}
}
