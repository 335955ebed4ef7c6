package keep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pool-managerd/pool-managerd/registry"
)

// bucket holds one intent a pool, by id. A form that older programs cannot read gets another name.
var bucket = []byte("intents.1")

// unread holds, by id, the last entry that could not be read and was replaced: nothing that an operator asked for is lost silently.
var unread = []byte("unread.1")

// lockWait is how long a second process waits for the store of the first.
const lockWait = 2 * time.Second

// Store is the file. Its methods may be called from any goroutine; each write is on disk when it returns.
type Store struct {
	path string

	mu sync.Mutex
	db *bbolt.DB // nil: it could not be opened yet; opened for reading only where the disk takes no writes
}

// Open opens or makes the file. One that is damaged is moved aside to path.broken and made anew; moved says so. A file that
// another process holds is an error. Where the disk does not let it be written, full or read-only, refused says so: such a store knows
// what it can read, nothing where Readable is false, and tries to open the file whenever something is to be written.
func Open(path string) (s *Store, moved bool, refused, err error) {
	s = &Store{path: path}
	moved, err = s.open()
	var disk syscall.Errno
	if errors.As(err, &disk) {
		s.db, _ = openReadOnly(path) // err says already why not more
		return s, moved, err, nil
	}
	if err != nil {
		return nil, moved, nil, err
	}
	return s, moved, nil, nil
}

// Readable reports whether what was written down before is known.
func (s *Store) Readable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db != nil
}

// writable opens the file for writing where it is not; the caller holds the lock. Where that fails the file stays as readable as it was.
func (s *Store) writable() error {
	if s.db != nil && !s.db.IsReadOnly() {
		return nil
	}
	if s.db != nil { // its lock on the file would keep us out
		if err := s.db.Close(); err != nil {
			return err
		}
		s.db = nil
	}
	_, err := s.open()
	if err != nil {
		s.db, _ = openReadOnly(s.path)
	}
	return err
}

// open opens the file for writing; the caller holds the lock, or is the only one.
func (s *Store) open() (moved bool, err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return false, fmt.Errorf("the folder of what operators asked for: %w", err)
	}
	var disk syscall.Errno
	switch s.db, err = open(s.path); {
	case err == nil:
		return false, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return false, fmt.Errorf("%s is held by another process; is a second daemon running? %w", s.path, err)
	case errors.As(err, &disk):
		return false, fmt.Errorf("what operators asked for: %w", err)
	}
	if renamed := os.Rename(s.path, s.path+".broken"); renamed != nil {
		return false, fmt.Errorf("%s cannot be read, nor moved aside: %w", s.path, errors.Join(err, renamed))
	}
	if s.db, err = open(s.path); err != nil {
		return true, fmt.Errorf("make %s: %w", s.path, err)
	}
	return true, nil
}

// open opens the file, and reads all of it, so that damage is found here and not later.
func open(path string) (db *bbolt.DB, err error) {
	defer guard(&err)()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(_, _ []byte) error { return nil })
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// openReadOnly opens a file that cannot be written, as on a disk that was mounted read-only after errors; nil where that fails, too.
func openReadOnly(path string) (db *bbolt.DB, err error) {
	defer guard(&err)()
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
}

// guard turns what bbolt does about damaged pages, a panic or a fault in the mapped file, into an error.
func guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = fmt.Errorf("the file is damaged: %v", p)
		}
	}
}

// Close closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}

// Intents returns every intent by pool. An entry that cannot be read is left out and stays in the file; its error is joined to err, beside
// the others.
func (s *Store) Intents() (list map[string]Intent, err error) {
	defer guard(&err)()
	s.mu.Lock()
	defer s.mu.Unlock()
	list = make(map[string]Intent)
	if s.db == nil {
		return list, nil
	}
	var odd []error
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil { // the disk was full when the file was made
			return nil
		}
		return b.ForEach(func(id, text []byte) error {
			var i Intent
			if err := json.Unmarshal(text, &i); err != nil {
				odd = append(odd, fmt.Errorf("what was asked of pool %s: %w", id, err))
				return nil
			}
			list[string(id)] = i
			return nil
		})
	})
	return list, errors.Join(append(odd, err)...)
}

// Put writes an intent down, in place of the pool's former one; an empty one is forgotten. The error is a *registry.Failure.
func (s *Store) Put(id string, i Intent) error {
	err := s.put(id, i)
	if err == nil {
		return nil
	}
	hint := "See the log of pool-managerd."
	if errors.Is(err, syscall.EROFS) {
		hint = "Make the disk of " + filepath.Dir(s.path) + " writable, then ask again."
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		hint = "Make room on the disk of " + filepath.Dir(s.path) + ", then ask again."
	}
	return registry.Fail(registry.CodeStateNotSaved, "it could not be written down, so nothing was changed: "+err.Error(), hint)
}

func (s *Store) put(id string, i Intent) (err error) {
	defer guard(&err)()
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := setAside(tx, []byte(id)); err != nil {
			return err
		}
		if i.Empty() {
			return tx.Bucket(bucket).Delete([]byte(id))
		}
		return tx.Bucket(bucket).Put([]byte(id), text)
	})
}

// setAside keeps an entry that cannot be read from being overwritten.
func setAside(tx *bbolt.Tx, id []byte) error {
	var i Intent
	text := tx.Bucket(bucket).Get(id)
	if text == nil || json.Unmarshal(text, &i) == nil {
		return nil
	}
	aside, err := tx.CreateBucketIfNotExists(unread)
	if err != nil {
		return err
	}
	return aside.Put(id, bytes.Clone(text))
}
