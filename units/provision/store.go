// Package provision prepares what an engine needs before it may be started: the model's files,
// present, readable by the engine's user and verified where a digest was given; the engine's
// binary, and its version; and a TCP port.
//
// It owns these checks, their verdicts on disk, and the messages and hints of their failures. It
// installs and downloads nothing, starts no engine, and must not know when it is called or what
// follows.
package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/units/boltfile"
)

// The store's buckets.
const (
	bucketDigests  = "digests"
	bucketVersions = "versions"
	bucketPeaks    = "peaks"
)

// keepMost is how many verdicts of one kind are kept, the newest: those of a few large models in
// many files.
const keepMost = 8192

// Store remembers verdicts over restarts: digests of model files and versions of binaries, each
// under the file's identity, and the memory that replicas took. It is only a cache: what it has
// lost is found again. A nil *Store remembers nothing.
type Store struct {
	file *boltfile.File
	keep int
}

// OpenStore opens or makes the store. There is always one to work with: report is called, now or
// later, where something was wrong. On a disk that cannot be written, nothing is remembered.
func OpenStore(path string, report func(boltfile.Report)) *Store {
	buckets := []string{bucketDigests, bucketVersions, bucketPeaks}
	return &Store{file: boltfile.Open(path, buckets, report), keep: keepMost}
}

// Check writes the file again if another process deleted or replaced it; report is called then.
func (s *Store) Check() {
	if s != nil {
		s.file.Check()
	}
}

// Close closes the store.
func (s *Store) Close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}

// verdict is a value in the store.
type verdict struct {
	Value string    `json:"value"`
	Since time.Time `json:"since"`
}

// get returns what is remembered for a key. A verdict that cannot be read is none.
func (s *Store) get(bucket, key string) (value string, ok bool) {
	if s == nil {
		return "", false
	}
	err := s.file.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil { // of an older version, on a disk that cannot be written
			return nil
		}
		var v verdict
		if raw := b.Get([]byte(key)); raw != nil && json.Unmarshal(raw, &v) == nil {
			value, ok = v.Value, true
		}
		return nil
	})
	return value, ok && err == nil
}

// put remembers a value.
func (s *Store) put(bucket, key, value string) error {
	if s == nil {
		return nil
	}
	return s.update(bucket, func(b *bbolt.Bucket) error { return s.set(b, key, value) })
}

// set writes a value, and drops the oldest when there are too many.
func (s *Store) set(b *bbolt.Bucket, key, value string) error {
	raw, err := json.Marshal(verdict{Value: value, Since: time.Now()})
	if err != nil {
		return err
	}
	if err := b.Put([]byte(key), raw); err != nil {
		return err
	}
	return trim(b, s.keep)
}

// update changes a bucket. That the file could not be opened was reported then, and is no error of
// each change.
func (s *Store) update(bucket string, change func(*bbolt.Bucket) error) error {
	open := s.file.Readable()
	err := s.file.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(bucket))) })
	if !open {
		return nil
	}
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
