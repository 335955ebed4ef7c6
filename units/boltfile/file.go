// Package boltfile is a bbolt file that repairs itself, so that opening it always returns a usable
// file. A file that is damaged, or that cannot be opened for writing, is renamed, and a new one is
// created with the entries that could be read.
//
// It owns the file, the check of its pages and the report of damage. It must not know the meaning
// of the entries, nor how the report is shown.
package boltfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pool-managerd/pool-managerd/registry/aside"
)

// lockWait is how long to wait for a file that another process has locked: a killed process may
// still be exiting.
const lockWait = 2 * time.Second

// Report is what was wrong with a file.
type Report struct {
	Path string
	// Damage is what was wrong, Aside where the former file is kept, Kept how many of its entries
	// are in the new one. Damage is nil where the file was good.
	Damage error
	Aside  string
	Kept   int
	// Gone reports that another process deleted or replaced the file while it was in use. What is
	// there instead is kept as Aside, and the new file has all Kept entries.
	Gone bool
	// Refused is why the file cannot be written: the disk is full or read-only. Each Update tries
	// again.
	Refused error
}

// File is a bbolt file with top buckets of entries. Its methods may be called from any goroutine;
// data of Update is on disk when it returns.
type File struct {
	path    string
	buckets []string
	report  func(Report)

	mu     sync.Mutex
	db     *bbolt.DB   // nil: not open
	opened os.FileInfo // which file that is
	gaveUp bool        // the file is gone, could not be restored, and that was reported
	closed bool
}

// errNotOpen is returned by View where there is no file that can be read.
var errNotOpen = errors.New("the file is not open")

// Open opens or creates the file with these buckets. report is called after each repair, now or in
// use.
func Open(path string, buckets []string, report func(Report)) *File {
	f := &File{path: path, buckets: buckets, report: report}
	if r := f.open(); r != (Report{}) {
		r.Path = path
		report(r)
	}
	return f
}

// Readable reports whether what was written before can be read.
func (f *File) Readable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.db != nil
}

// View runs a transaction that reads.
func (f *File) View(read func(*bbolt.Tx) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.db == nil {
		return fmt.Errorf("%s: %w", f.path, errNotOpen)
	}
	return f.guarded(func() error { return f.db.View(read) })
}

// Update runs a transaction that writes.
func (f *File) Update(write func(*bbolt.Tx) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.writable(); err != nil {
		return err
	}
	return f.guarded(func() error { return f.db.Update(write) })
}

// Close closes the file.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.db == nil {
		return nil
	}
	db := f.db
	f.db = nil
	return db.Close()
}

// writable opens the file for writing where it is not; the caller holds the lock. Where that
// fails, the file stays as readable as it was.
func (f *File) writable() error {
	switch {
	case f.closed:
		return os.ErrClosed
	case f.gone():
		return f.restore()
	case f.db != nil && !f.db.IsReadOnly():
		return nil
	case f.db != nil: // its own lock would keep the second one out
		if err := f.db.Close(); err != nil {
			return err
		}
		f.db = nil
	}
	r := f.open()
	if r.Aside != "" {
		r.Path = f.path
		f.report(r)
	}
	return r.Refused
}

// guarded runs a transaction. After one that panicked the open file is not used again, since its
// locks may never be released; the next Update repairs it.
func (f *File) guarded(transaction func() error) (err error) {
	panicked := true
	defer func() {
		if panicked {
			f.db = nil
		}
	}()
	defer guard(&err)()
	err = transaction()
	panicked = false
	return err
}

// guard converts a panic of bbolt on damaged pages, or a fault in mapped memory, into an error. The
// returned function is deferred.
func guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = fmt.Errorf("the file is damaged: %v", p)
		}
	}
}

// open opens the file, repairs it if necessary, and returns the damage; the caller holds
// the lock, or is the only one.
func (f *File) open() Report {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return Report{Refused: err}
	}
	got, err := read(f.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = f.use()
	}
	switch {
	case err == nil:
		return Report{}
	case aside.Refused(err):
		f.db, _ = openReadOnly(f.path) // err is the reason already
		return Report{Refused: fmt.Errorf("%s: %w", f.path, err)}
	}
	return f.repair(got, err)
}

// use opens the file at the path for reading and writing.
func (f *File) use() (err error) {
	if f.db, err = open(f.path, f.buckets, nil); err != nil {
		return err
	}
	if f.opened, err = os.Stat(f.path); err != nil {
		return errors.Join(err, f.db.Close())
	}
	return nil
}

// newSuffix is the suffix of a file's name until it is complete.
const newSuffix = ".new"

// repair replaces an unusable file by one with these entries. If the new one cannot be written, the
// former file stays, and the next Update tries again.
func (f *File) repair(got contents, damage error) Report {
	r := Report{Damage: damage}
	if r.Refused = f.replace(got, &r.Aside); r.Refused != nil {
		return r
	}
	for _, entries := range got {
		r.Kept += len(entries)
	}
	return r
}

func (f *File) replace(got contents, to *string) error {
	fresh := f.path + newSuffix
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	db, err := open(fresh, f.buckets, got)
	if err == nil {
		err = db.Close()
	}
	if err == nil {
		if _, missing := os.Lstat(f.path); !errors.Is(missing, os.ErrNotExist) {
			*to, err = aside.Move(f.path, time.Now())
		}
	}
	if err == nil {
		err = os.Rename(fresh, f.path)
	}
	if err == nil {
		err = f.use()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return nil
}

// open opens a file for writing, makes its buckets and puts entries into it.
func open(path string, buckets []string, got contents) (db *bbolt.DB, err error) {
	defer guard(&err)()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	if !complete(db, buckets) || got != nil { // else nothing is written: a full disk can be read
		err = db.Update(func(tx *bbolt.Tx) error { return fill(tx, buckets, got) })
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// complete reports whether all buckets are there.
func complete(db *bbolt.DB, buckets []string) bool {
	all := true
	err := db.View(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			all = all && tx.Bucket([]byte(name)) != nil
		}
		return nil
	})
	return all && err == nil
}

func fill(tx *bbolt.Tx, buckets []string, got contents) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	for name, entries := range got {
		b, err := tx.CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		for key, value := range entries {
			if err := b.Put([]byte(key), value); err != nil {
				return err
			}
		}
	}
	return nil
}

// openReadOnly opens a file that cannot be written, as on a disk that was mounted read-only after
// errors; nil where that fails, too.
func openReadOnly(path string) (db *bbolt.DB, err error) {
	defer guard(&err)()
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
}
