package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

const gib = uint64(1) << 30

// running is a driver with two GPUs of 8 GiB behind its two sockets.
func running(t *testing.T) (d *driver, dir string) {
	t.Helper()
	dir = t.TempDir()
	d = newDriver(dir, fakenvml.Default(2, 8*gib))
	if err := d.write(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait) // the last of the cleanups
	for name, serve := range map[string]func(context.Context, *net.UnixConn){"take.sock": d.take,
		"ctl.sock": d.command} {
		l, err := listen(filepath.Join(dir, name), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { accept(t.Context(), l, serve) }) // which ends before the cleanups
	}
	return d, dir
}

// request asks for memory as an engine does.
func request(dir string, bytes map[string]uint64) (net.Conn, string, error) {
	c, err := net.Dial("unix", filepath.Join(dir, "take.sock"))
	if err != nil {
		return nil, "", err
	}
	if err := json.NewEncoder(c).Encode(bytes); err != nil {
		return nil, "", errors.Join(err, c.Close())
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(err, c.Close())
	}
	return c, strings.TrimSpace(answer), nil
}

// engine takes memory and returns the answer; closing the connection is its end.
func engine(t *testing.T, dir string, bytes map[string]uint64) (net.Conn, string) {
	t.Helper()
	c, answer, err := request(dir, bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, answer
}

func state(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, fakenvml.StateFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// until waits for the state to say something, or to stop saying it.
func until(t *testing.T, dir, text string, there bool) {
	t.Helper()
	for range 500 {
		if strings.Contains(state(t, dir), text) == there {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%q there=%t did not come:\n%s", text, there, state(t, dir))
}

func TestTake(t *testing.T) {
	held := fmt.Sprintf("process %d %d", os.Getpid(), 5*gib)
	t.Run("memory_is_the_engines_until_it_ends", func(t *testing.T) {
		_, dir := running(t)
		c, answer := engine(t, dir, map[string]uint64{fakenvml.UUID(0): 5 * gib})
		if answer != "ok" || !strings.Contains(state(t, dir), held) {
			t.Fatalf("%s\n%s", answer, state(t, dir))
		}
		c.Close()
		until(t, dir, held, false)
	})
	t.Run("more_than_there_is_gives_nothing_of_either_gpu", func(t *testing.T) {
		_, dir := running(t)
		_, answer := engine(t, dir, map[string]uint64{fakenvml.UUID(0): gib, fakenvml.UUID(1): 9 * gib})
		if answer != "out of memory" || strings.Contains(state(t, dir), "process") {
			t.Fatalf("%s\n%s", answer, state(t, dir))
		}
	})
	t.Run("what_one_connection_gives_back_is_its_own", func(t *testing.T) {
		_, dir := running(t)
		first, _ := engine(t, dir, map[string]uint64{fakenvml.UUID(0): gib})
		if _, answer := engine(t, dir, map[string]uint64{fakenvml.UUID(0): 5 * gib}); answer != "ok" {
			t.Fatal(answer)
		}
		first.Close()
		until(t, dir, fmt.Sprintf("process %d %d\n", os.Getpid(), gib), false)
		if now := state(t, dir); !strings.Contains(now, held) {
			t.Errorf("the other's memory is gone:\n%s", now)
		}
	})
	t.Run("late_on_request", func(t *testing.T) {
		d, dir := running(t)
		if _, err := d.run([]string{"late", "300ms"}); err != nil {
			t.Fatal(err)
		}
		c, _ := engine(t, dir, map[string]uint64{fakenvml.UUID(0): 5 * gib})
		began := time.Now()
		c.Close()
		until(t, dir, held, false)
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("released after %s", took)
		}
	})
}

func TestCommands(t *testing.T) {
	_, dir := running(t)
	for _, c := range []struct{ command, in, file string }{
		{"hog 1 1000", "process 1 1000", "state"},
		{"lose 0", "problem 15", "state"},
		{"hold 1 2000 4711", "process 4711 2000", "state"},
		{"list 1 3", "list 3", "state"},
		{"recovery 1 1", "recovery 1\n", "state"},
		{"hang nvmlInit_v2", "hang nvmlInit_v2", "state"},
		{"replace 999.1", "driver 999.1", "state"},
		{"replace 999.2", "generation 3", "state"},
		{"ecc 1", "ecc 1 0 1", "state"},
		{"latency 2ms", "latency 2000", "state"},
		{"xid 1 79", "xid " + fakenvml.UUID(1) + " 79 -1 -1", "events"},
		{"xid 1 31 77 7 0", "xid " + fakenvml.UUID(1) + " 31 7 0", "events"},
		{"unavailable 0", "unavailable " + fakenvml.UUID(0) + " 0 -1 -1", "events"},
	} {
		if err := ask(dir, strings.Fields(c.command)); err != nil {
			t.Fatalf("%s: %v", c.command, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil || !strings.Contains(string(text), c.in) {
			t.Errorf("%s: no %q in %s: %v\n%s", c.command, c.in, c.file, err, text)
		}
	}
	before := state(t, dir)
	for _, bad := range []string{"xid 7 79", "dance 0", "xid zero 1", "xid 0", "xid 0 x", "xid 0 31 77 7", "hog 0 8G", "hog 0 -1", "lose 0 1", "recovery 0", "init nine",
		"late soon", "late -1s", "latency", "hang", "xid -1 79"} {
		if err := ask(dir, strings.Fields(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if after := state(t, dir); after != before {
		t.Errorf("commands that were refused did something:\n%s\nbefore:\n%s", after, before)
	}
}

func TestKernelLine(t *testing.T) {
	for _, c := range []struct {
		name, pci string
		event     fakenvml.Event
		pid       uint64
		want      string
	}{
		{"whole_gpu", "00000000:65:00.0", fakenvml.Event{Data: 79, GI: -1, CI: -1}, 0, "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=stubengine, fake"},
		{"process", "00000000:65:00.0", fakenvml.Event{Data: 31, GI: -1, CI: -1}, 4711, "NVRM: Xid (PCI:0000:65:00): 31, pid=4711, name=stubengine, fake"},
		{"instance", "00000000:65:00.0", fakenvml.Event{Data: 31, GI: 7, CI: 0}, 4711, "NVRM: Xid (PCI:0000:65:00 GPU-I:07 GPU-CI:00): 31, pid=4711, name=stubengine, fake"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kernelLine(c.pci, c.event, c.pid); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestAtOnce: whatever engines and operators do together, never more is given than there is, and in
// the end all of it is back.
func TestAtOnce(t *testing.T) {
	d, dir := running(t)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			for range 10 {
				c, answer, err := request(dir, map[string]uint64{fakenvml.UUID(i % 2): 3 * gib})
				if err != nil || answer != "ok" && answer != "out of memory" {
					t.Errorf("%q, %v", answer, err)
					return
				}
				c.Close()
			}
		})
	}
	all.Go(func() {
		for i := range 50 {
			if _, err := d.run(strings.Fields(fmt.Sprintf("xid %d 31", i%2))); err != nil {
				t.Error(err)
			}
			d.mu.Lock()
			for _, g := range d.now.GPUs {
				if used := holding(g.Processes); used+g.Reserved > g.Total {
					t.Errorf("%s: %d of %d are given", g.UUID, used, g.Total)
				}
			}
			d.mu.Unlock()
		}
	})
	all.Wait()
	until(t, dir, "process", false)
}

func holding(list []fakenvml.Process) (sum uint64) {
	for _, p := range list {
		sum += p.Used
	}
	return sum
}

// TestServe: the driver is unloaded when its process ends, and nothing that an engine does then
// brings it back.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() { done <- serve(dir, fakenvml.Default(1, 8*gib)) }()
	var c net.Conn
	for c == nil {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
		if conn, answer, err := request(dir, map[string]uint64{fakenvml.UUID(0): gib}); err == nil && answer == "ok" {
			c = conn
		}
	}
	defer c.Close()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fakenvml.StateFile)); !os.IsNotExist(err) {
		t.Errorf("the state is still there: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the engine's connection is still open")
	}
}
