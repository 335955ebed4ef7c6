package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/handoff"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/units/keep"
)

// guarding is a daemon with its stores open and files in them, its guard, and what that restarts.
func guarding(t *testing.T) (g *guard, logged func() string, restarted *[]string) {
	t.Helper()
	dir := t.TempDir()
	d, buffer := stored(t, filepath.Join(dir, "state"), filepath.Join(dir, "run"))
	t.Cleanup(func() { d.closeStores(t) })
	d.handoff = handoff.NewKeeper(handoff.New(filepath.Join(dir, "run", "engines")), d.log)
	d.load(false)
	if err := d.keep.Put("a", keep.Intent{Drain: &keep.Drain{By: "uid:0"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.histories.Put("a/r0", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := d.leaseFile.Save([]lease.Lease{{ID: "l-1", Pool: "a", Replica: "r0"}}, nil); err != nil {
		t.Fatal(err)
	}
	g = &guard{d: d, restart: func(_ context.Context, unit string) error {
		*restarted = append(*restarted, unit)
		return nil
	}}
	restarted = new([]string)
	return g, buffer.String, restarted
}

// TestGuardRestoresFiles: whatever of the manager's files is deleted while it runs is there again,
// and the log names each.
func TestGuardRestoresFiles(t *testing.T) {
	g, logged, _ := guarding(t)
	d := g.d
	files := []string{d.o.stateDir + "/intents.db", d.o.stateDir + "/verdicts.db", d.formerPath(), d.o.runtimeDir + "/leases.db",
		d.o.runtimeDir + "/restarts/a:r0"}
	g.look(t.Context())
	if s := logged(); strings.Contains(s, "deleted") {
		t.Fatalf("nothing was deleted: %s", s)
	}
	for _, dir := range []string{d.o.stateDir, d.o.runtimeDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			remove(t, filepath.Join(dir, e.Name()))
		}
	}
	g.look(t.Context())
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	for _, says := range []string{"intents.db was deleted", "verdicts.db was deleted", "leases.db was deleted",
		"configuration.json was deleted", "notes on past failures of engines were deleted"} {
		if !strings.Contains(logged(), says) {
			t.Errorf("not in the log: %s", says)
		}
	}
	before := logged()
	g.look(t.Context())
	if logged() != before {
		t.Errorf("logged again: %s", strings.TrimPrefix(logged(), before))
	}
}

// TestGuardRescuesLeases: where the runtime directory itself is gone and cannot be made again, its
// leases are in force with the next manager, once, notes on past failures are known to it, and the
// log has one line.
func TestGuardRescuesLeases(t *testing.T) {
	g, logged, _ := guarding(t)
	d := g.d
	// A file in its place, as the read-only /run of the manager's sandbox, refuses a directory.
	if err := errors.Join(os.RemoveAll(d.o.runtimeDir), os.WriteFile(d.o.runtimeDir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	g.look(t.Context())
	g.look(t.Context())
	if n := strings.Count(logged(), "its leases are kept, and the manager restarts"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, logged())
	}
	if err := d.leaseFile.Save([]lease.Lease{{ID: "l-2", Pool: "a", Replica: "r0"}}, nil); err == nil {
		t.Error("a lease was granted that the next manager does not know")
	}
	d.closeStores(t)
	remove(t, d.o.runtimeDir)
	next, said := stored(t, d.o.stateDir, d.o.runtimeDir)
	defer next.closeStores(t)
	if n := next.leases.book.Active("a", "r0"); n != 1 ||
		!strings.Contains(said.String(), "whose directory was deleted") {
		t.Errorf("%d leases; log: %s", n, said)
	}
	if note := next.savedHistories["a/r0"]; string(note) != "{}" {
		t.Errorf("the note is %q", note)
	}
	for _, file := range []string{next.rescuePath(), next.rescuedNotes()} {
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the rescued file remains: %v", err)
		}
	}
}

// TestGuardRestoresSockets: a socket that is gone at two looks is made again by PID 1, the
// manager's own after the others; one that is there, or that just comes back, is left alone.
func TestGuardRestoresSockets(t *testing.T) {
	g, logged, restarted := guarding(t)
	dir := t.TempDir()
	admin, api, gpu := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "api.sock"), filepath.Join(dir, "gpu.sock")
	g.sockets = []guarded{{path: admin, unit: adminUnit, with: apiUnit}, {path: api, unit: apiUnit},
		{path: gpu, unit: "pool-gpu.socket"}}
	stopped := ""
	g.running = func(_ context.Context, unit string) (bool, error) { return unit != stopped, nil }
	for _, path := range []string{admin, api, gpu} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		defer l.Close()
	}
	look := func(want ...string) {
		t.Helper()
		*restarted = nil
		g.look(t.Context())
		if strings.Join(*restarted, " ") != strings.Join(want, " ") {
			t.Errorf("restarted %v, want %v", *restarted, want)
		}
	}
	look()
	look()
	if err := os.Rename(gpu, gpu+".away"); err != nil {
		t.Fatal(err)
	}
	look()
	if err := os.Rename(gpu+".away", gpu); err != nil {
		t.Fatal(err)
	}
	look()
	// Without the socket of administrators they have the other one: a stop of its unit by hand
	// restarts nothing.
	remove(t, admin)
	stopped = adminUnit
	logs := logged()
	look()
	look()
	if logged() != logs {
		t.Errorf("a unit that was stopped was logged: %s", strings.TrimPrefix(logged(), logs))
	}
	stopped = ""
	look()
	look("pool-managerd.socket")
	remove(t, gpu)
	remove(t, api) // both are made again by one restart
	look()
	look("pool-gpu.socket", "pool-managerd.socket")
	if n := strings.Count(logged(), "which makes it again"); n != 3 {
		t.Errorf("logged %d times", n)
	}
	look() // the next try comes after two more looks
	look("pool-gpu.socket", "pool-managerd.socket")
}
