package leaselog

import (
	"errors"
	"os"
	"slices"
	"syscall"
)

// errDead is what every operation returns once the process is taken to be dead.
var errDead = errors.New("the process has died")

// faulty is the disk of this host with a fault at its nth operation.
type faulty struct {
	system
	at    int  // which operation, from 0
	fatal bool // the process dies there; else the operation fails and all later ones succeed
	after bool // the operation is carried out first
	err   error

	done []string // the operations so far, by name
	dead bool
}

// operation runs do, or what the fault makes of it. half is what is left of a write that fails.
func (d *faulty) operation(name string, do, half func() error) error {
	if d.dead {
		return errDead
	}
	n := len(d.done)
	if d.done = append(d.done, name); n != d.at || d.err == nil {
		return do()
	}
	d.dead = d.fatal
	switch {
	case d.after && d.fatal:
		_ = do()
	case half != nil:
		_ = half()
	}
	return d.err
}

func (d *faulty) open(path string, flag int) (h handle, err error) {
	err = d.operation("open", func() (err error) { h, err = d.system.open(path, flag); return err }, nil)
	if err != nil {
		return nil, err
	}
	return faultyFile{h, d}, nil
}

func (d *faulty) rename(from, to string) error {
	return d.operation("rename", func() error { return d.system.rename(from, to) }, nil)
}

func (d *faulty) remove(path string) error {
	return d.operation("remove", func() error { return d.system.remove(path) }, nil)
}

func (d *faulty) moveAside(path string) (to string, err error) {
	err = d.operation("aside", func() (err error) { to, err = d.system.moveAside(path); return err }, nil)
	return to, err
}

type faultyFile struct {
	handle
	d *faulty
}

func (f faultyFile) WriteAt(p []byte, at int64) (n int, err error) {
	half := func() error { _, err := f.handle.WriteAt(p[:len(p)/2], at); return err }
	err = f.d.operation("write", func() (err error) { n, err = f.handle.WriteAt(p, at); return err }, half)
	return n, err
}

func (f faultyFile) Truncate(size int64) error {
	return f.d.operation("truncate", func() error { return f.handle.Truncate(size) }, nil)
}

func (f faultyFile) ReadAt(p []byte, at int64) (int, error) {
	if f.d.dead {
		return 0, errDead
	}
	return f.handle.ReadAt(p, at)
}

// points are the places where a scenario can go wrong: before, within or after each operation.
func points(done []string) []faulty {
	var list []faulty
	for n := range done {
		list = append(list, faulty{at: n, err: syscall.ENOSPC}, faulty{at: n, fatal: true, err: errDead},
			faulty{at: n, fatal: true, after: true, err: errDead})
	}
	return list
}

// asides are the files that were moved aside.
func asides(path string) []string {
	list, _ := os.ReadDir(path[:len(path)-len("/leases.db")])
	var names []string
	for _, e := range list {
		if e.Name() != "leases.db" {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}
