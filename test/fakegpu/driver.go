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
	late time.Duration // delay between the end of a process and the release of its memory
}

func newDriver(dir string, s fakenvml.State) *driver { return &driver{dir: dir, now: s} }

// write publishes the state; the caller holds the lock or is the only user.
func (d *driver) write() error { return d.now.Write(d.dir) }

// change modifies the state and publishes it.
func (d *driver) change(f func(*fakenvml.State) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := f(&d.now); err != nil {
		return err
	}
	return d.write()
}

// take serves one engine, which gets memory until its connection or ctx ends.
func (d *driver) take(ctx context.Context, c *net.UnixConn) {
	pid := peer(c)
	line, err := bufio.NewReader(io.LimitReader(c, 1<<16)).ReadBytes('\n')
	if err != nil {
		return
	}
	var request map[string]uint64
	if err := json.Unmarshal(line, &request); err != nil {
		fmt.Fprintln(c, "not understood:", err)
		return
	}
	if err := d.change(func(s *fakenvml.State) error { return give(s, pid, request) }); err != nil {
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
	_ = d.change(func(s *fakenvml.State) error { release(s, pid, request); return nil })
}

// peer returns the process at the other end; 0: unknown.
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

// holder is a GPU or a partition, from which memory is taken.
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

// give gives a process all of its request, or nothing.
func give(s *fakenvml.State, pid int, request map[string]uint64) error {
	for uuid, bytes := range request {
		h, ok := find(s, uuid)
		if !ok {
			return fmt.Errorf("no CUDA-capable device is detected (%s)", uuid)
		}
		if h.free() < bytes {
			return fmt.Errorf("out of memory")
		}
	}
	for uuid, bytes := range request {
		h, _ := find(s, uuid)
		*h.processes = append(slices.Clone(*h.processes), fakenvml.Process{PID: pid, Used: bytes})
	}
	return nil
}

// release takes from a process what one of its connections was given.
func release(s *fakenvml.State, pid int, request map[string]uint64) {
	for uuid, bytes := range request {
		h, ok := find(s, uuid)
		if !ok {
			continue
		}
		if i := slices.Index(*h.processes, fakenvml.Process{PID: pid, Used: bytes}); i >= 0 {
			*h.processes = slices.Delete(slices.Clone(*h.processes), i, i+1)
		}
	}
}
