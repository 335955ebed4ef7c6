// Package provision makes ready what an engine needs before it may be started: the model's files, present, readable by
// the engine's user and verified where a digest was given; the engine's binary, and its version; and a TCP port.
//
// It owns these checks, their verdicts on disk, and the words in which a failure and its remedy are told. It installs and downloads
// nothing, starts no engine, and must not know when it is called or what follows.
package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The store's buckets.
const (
	bucketDigests  = "digests"
	bucketVersions = "versions"
	bucketPeaks    = "peaks" // made with the first peak
)

// keepMost is how many verdicts of one kind are kept, the newest: those of a few large models in many files.
const keepMost = 8192

// lockWait is how long a second process waits for the store of the first.
const lockWait = 2 * time.Second

// Store remembers verdicts over restarts: digests of model files and versions of binaries, each under the
// file's identity, and the memory that replicas took. It is only a cache: what it has lost is found again. A nil *Store remembers nothing.
type Store struct {
	db   *bbolt.DB
	keep int
	lost atomic.Bool // damaged while in use
}

// OpenStore opens or makes the store. A store that is damaged is moved aside to path.broken and made anew; moved
// says so. A store that another process holds is an error, and so is a disk that does not let it be opened.
func OpenStore(path string) (s *Store, moved bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, false, fmt.Errorf("the folder of the verdicts: %w", err)
	}
	db, err := open(path)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, false, fmt.Errorf("%s is held by another process; is a second daemon running? %w", path, err)
	}
	if err == nil {
		return &Store{db: db, keep: keepMost}, false, nil
	}
	var refused syscall.Errno
	if errors.As(err, &refused) {
		return nil, false, fmt.Errorf("the store of verdicts: %w", err)
	}
	if renamed := os.Rename(path, path+".broken"); renamed != nil {
		return nil, false, fmt.Errorf("%s cannot be read, nor moved aside: %w", path, errors.Join(err, renamed))
	}
	db, err = open(path)
	if err != nil {
		return nil, true, fmt.Errorf("make %s: %w", path, err)
	}
	return &Store{db: db, keep: keepMost}, true, nil
}

// open opens the file and reads all of it once: damage is found here, not when a pool waits for a verdict. A damaged file is
// not closed, since the transaction that found the damage may hold its locks; the descriptor goes with the process.
func open(path string) (db *bbolt.DB, err error) {
	defer guard(&err)()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return nil, err
	}
	var complete bool
	err = db.View(func(tx *bbolt.Tx) error {
		complete = tx.Bucket([]byte(bucketDigests)) != nil && tx.Bucket([]byte(bucketVersions)) != nil
		return intact(tx)
	})
	if err == nil && !complete { // else nothing is written: a full disk keeps nobody from reading
		err = db.Update(makeBuckets)
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

func makeBuckets(tx *bbolt.Tx) error {
	for _, name := range []string{bucketDigests, bucketVersions} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return nil
}

// intact reads every verdict. (bbolt's own check runs in a goroutine of its own, where a fault cannot be caught.)
func intact(tx *bbolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("it is cut off: %d bytes of %d are there", info.Size(), tx.Size())
	}
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(key, raw []byte) error {
			var v verdict
			if err := json.Unmarshal(raw, &v); err != nil {
				return fmt.Errorf("the verdict on %q: %w", key, err)
			}
			return nil
		})
	})
}

// guard makes an error of what bbolt has none for: it panics on some damage, and a file that is shorter than its own header
// says is a fault in mapped memory. The returned function is deferred.
func guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = fmt.Errorf("it is damaged: %v", p)
		}
	}
}

// Close closes the store.
func (s *Store) Close() error {
	if s == nil {
		return nil
	}
	return s.db.Close()
}

// verdict is a value in the store.
type verdict struct {
	Value string    `json:"value"`
	Since time.Time `json:"since"`
}

// get returns what is remembered for a key.
func (s *Store) get(bucket, key string) (value string, ok bool) {
	if s == nil || s.lost.Load() {
		return "", false
	}
	err := s.guarded(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucket))
			if b == nil {
				return nil
			}
			var v verdict
			if raw := b.Get([]byte(key)); raw != nil && json.Unmarshal(raw, &v) == nil {
				value, ok = v.Value, true
			}
			return nil
		})
	})
	return value, ok && err == nil
}

// put remembers a value, and drops the oldest when there are too many.
func (s *Store) put(bucket, key, value string) error {
	if s == nil {
		return nil
	}
	if s.lost.Load() {
		return errLost
	}
	raw, err := json.Marshal(verdict{Value: value, Since: time.Now()})
	if err != nil {
		return err
	}
	return s.guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucket))
			if err := b.Put([]byte(key), raw); err != nil {
				return err
			}
			return trim(b, s.keep)
		})
	})
}

// errLost is what put says after the file was found damaged while it was in use.
var errLost = errors.New("the store of verdicts is damaged; it is made anew when the manager starts next")

// guarded runs a transaction. After one that panicked the store is not touched again: its locks may be held for ever.
func (s *Store) guarded(transaction func() error) (err error) {
	panicked := true
	defer func() {
		if panicked {
			s.lost.Store(true)
		}
	}()
	defer guard(&err)()
	err = transaction()
	panicked = false
	return err
}

// trim drops the oldest tenth when there are too many: one at a time, each put would read them all.
func trim(b *bbolt.Bucket, keep int) error {
	if b.Inspect().KeyN <= keep {
		return nil
	}
	type aged struct {
		key   []byte
		since time.Time
	}
	var all []aged
	err := b.ForEach(func(k, raw []byte) error {
		var v verdict
		_ = json.Unmarshal(raw, &v) // what cannot be read is the oldest of all
		all = append(all, aged{bytes.Clone(k), v.Since})
		return nil
	})
	slices.SortFunc(all, func(a, b aged) int { return a.since.Compare(b.since) })
	for _, old := range all[:len(all)-keep+keep/10] {
		err = errors.Join(err, b.Delete(old.key))
	}
	return err
}
