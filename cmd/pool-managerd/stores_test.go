package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/units/keep"
)

// stored is a daemon with its stores open, and what it logs.
func stored(t *testing.T, stateDir, runtimeDir string) (*daemon, *bytes.Buffer) {
	t.Helper()
	d := configured(t, "", "")
	logged := &bytes.Buffer{}
	d.log = slog.New(slog.NewJSONHandler(logged, nil))
	d.o.stateDir, d.o.runtimeDir = stateDir, runtimeDir
	if err := d.openStores(); err != nil {
		t.Fatal(err)
	}
	return d, logged
}

func (d *daemon) closeStores(t *testing.T) {
	t.Helper()
	if err := errors.Join(d.leaseFile.Close(), d.keep.Close(), d.store.Close(), d.measured.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedStateFiles: whatever a state file holds, the daemon starts, logs one error with the
// name under which the file is kept, and shows a problem until that file is removed.
func TestDamagedStateFiles(t *testing.T) {
	noise := bytes.Repeat([]byte{0xa5, 7, 0xff, '\n', 0}, 8000)
	damages := map[string]func(path string) error{
		"noise_at_a_page": func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			at := min(4096, len(content)/2)
			return os.WriteFile(path, append(content[:at:at], noise[:4096]...), 0o600)
		},
		"all_noise":   func(path string) error { return os.WriteFile(path, noise, 0o600) },
		"empty":       func(path string) error { return os.Truncate(path, 0) },
		"a_directory": func(path string) error { return errors.Join(os.Remove(path), os.MkdirAll(path+"/sub", 0o700)) },
	}
	for _, name := range []string{"state/verdicts.db", "state/intents.db", "state/performance.db", "run/leases.db"} {
		for kind, damage := range damages {
			t.Run(filepath.Base(name)+"/"+kind, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, name)
				d, _ := stored(t, filepath.Join(dir, "state"), filepath.Join(dir, "run"))
				d.closeStores(t)
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				d, logged := stored(t, filepath.Join(dir, "state"), filepath.Join(dir, "run"))
				defer d.closeStores(t)
				aside, err := filepath.Glob(path + ".damaged-*")
				if err != nil || len(aside) != 1 {
					t.Fatalf("moved aside: %v, %v", aside, err)
				}
				if n := strings.Count(logged.String(), `"level":"ERROR"`); n != 1 ||
					!strings.Contains(logged.String(), aside[0]) {
					t.Errorf("%d errors: %s", n, logged)
				}
				problems := d.load(false).HostProblems
				if len(problems) != 1 || problems[0].File != path || !strings.Contains(problems[0].Hint, aside[0]) {
					t.Errorf("problems: %+v", problems)
				}
				if err := os.RemoveAll(aside[0]); err != nil {
					t.Fatal(err)
				}
				if problems := d.load(false).HostProblems; len(problems) != 0 {
					t.Errorf("once it is removed: %+v", problems)
				}
			})
		}
	}
}

// TestDrainsUntilRestart: a drain that was to last until the next manager is over when that starts,
// and in the file too; other requests stay.
func TestDrainsUntilRestart(t *testing.T) {
	state, run := t.TempDir(), t.TempDir()
	d, _ := stored(t, state, run)
	for id, drain := range map[string]*keep.Drain{"a": {UntilRestart: true}, "b": {}} {
		if err := d.keep.Put(id, keep.Intent{Drain: drain, Override: &keep.Override{Model: "file:/m"}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		d.closeStores(t)
		d, _ = stored(t, state, run)
		if a, b := d.intents["a"], d.intents["b"]; a.Drain != nil || a.Override == nil || b.Drain == nil {
			t.Errorf("a: %+v, b: %+v", a, b)
		}
		if list, err := d.keep.Intents(); err != nil || list["a"].Drain != nil || list["b"].Drain == nil {
			t.Errorf("in the file: %+v, %v", list, err)
		}
	}
	d.closeStores(t)
}

// TestFormerLeases: leases of version 0.1.0, which kept them in a bbolt file, are held on.
func TestFormerLeases(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "leases.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("leases"))
		if err != nil {
			return err
		}
		text := `{"id":"l-1","pool":"a","replica":"r0","run":"run1","holder":"me",` +
			`"endpoint":"http://127.0.0.1:1","expires":9000000000000000000}`
		return b.Put([]byte("l-1"), []byte(text))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from the new file
		d, logged := stored(t, t.TempDir(), dir)
		d.leases.SetPool("a", lease.Pool{Seats: []lease.Seat{{Replica: "r0", Run: "run1", Slots: 2, Open: true}}}, nil)
		list := d.leases.book.Leases("a")
		if len(list) != 1 || list[0].ID != "l-1" || list[0].Holder != "me" ||
			list[0].Expires < lease.Moment(time.Hour) {
			t.Errorf("leases: %+v", list)
		}
		if strings.Contains(logged.String(), `"level":"ERROR"`) {
			t.Errorf("logged: %s", logged)
		}
		d.closeStores(t)
	}
}
