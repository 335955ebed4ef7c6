package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	for name, serve := range map[string]func(*net.UnixConn){"take.sock": d.take, "ctl.sock": d.command} {
		l, err := listen(filepath.Join(dir, name), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { accept(l, serve) })
		t.Cleanup(func() { l.Close() })
	}
	return d, dir
}

// engine takes memory and returns the answer; closing the connection is its end.
func engine(t *testing.T, dir string, wish map[string]uint64) (net.Conn, string) {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(dir, "take.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	line, _ := json.Marshal(wish)
	fmt.Fprintf(c, "%s\n", line)
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return c, strings.TrimSpace(answer)
}

func state(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, fakenvml.StateFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// until waits for the state to say something, or to say it no more.
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
	t.Run("late_on_request", func(t *testing.T) {
		d, dir := running(t)
		if _, err := d.obey([]string{"late", "300ms"}); err != nil {
			t.Fatal(err)
		}
		c, _ := engine(t, dir, map[string]uint64{fakenvml.UUID(0): 5 * gib})
		began := time.Now()
		c.Close()
		until(t, dir, held, false)
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("given back after %s", took)
		}
	})
}

func TestCommands(t *testing.T) {
	_, dir := running(t)
	for _, c := range []struct{ command, in, file string }{
		{"hog 1 1000", "process 1 1000", "state"},
		{"lose 0", "problem 15", "state"},
		{"recovery 1 1", "recovery 1\n", "state"},
		{"hang nvmlInit_v2", "hang nvmlInit_v2", "state"},
		{"replace 999.1", "driver 999.1", "state"},
		{"replace 999.2", "generation 3", "state"},
		{"ecc 1", "ecc 1 0 1", "state"},
		{"xid 1 79", "xid " + fakenvml.UUID(1) + " 79 -1 -1", "events"},
	} {
		if err := ask(dir, strings.Fields(c.command)); err != nil {
			t.Fatalf("%s: %v", c.command, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil || !strings.Contains(string(text), c.in) {
			t.Errorf("%s: no %q in %s: %v\n%s", c.command, c.in, c.file, err, text)
		}
	}
	for _, bad := range []string{"xid 7 79", "dance 0", "xid zero 1"} {
		if err := ask(dir, strings.Fields(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
