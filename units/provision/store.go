// Package provision makes ready what an engine needs before it may be started: the model's files, present, readable by
// the engine's user and verified where a digest was given; the engine's binary, and its version; and a TCP port.
//
// It owns these checks, their verdicts on disk, and the words in which a failure and its remedy are told. It installs and downloads
// nothing, starts no engine, and must not know when it is called or what follows.
package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The store's buckets.
const (
	bucketDigests  = "digests"
	bucketVersions = "versions"
)

// keepMost is how many verdicts of one kind are kept: the newest.
const keepMost = 1024

// lockWait is how long a second process waits for the store of the first.
const lockWait = 2 * time.Second

// Store remembers verdicts over restarts: digests of model files and versions of binaries, each under the
// file's identity. It is only a cache: what it has lost is found again. A nil *Store remembers nothing.
type Store struct {
	db   *bbolt.DB
	keep int
}

// OpenStore opens or makes the store. A store that cannot be read is moved aside to path.broken and made anew; moved
// says so. A store that another process holds is an error.
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
	if renamed := os.Rename(path, path+".broken"); renamed != nil {
		return nil, false, fmt.Errorf("%s cannot be read, nor moved aside: %w", path, errors.Join(err, renamed))
	}
	db, err = open(path)
	if err != nil {
		return nil, true, fmt.Errorf("make %s: %w", path, err)
	}
	return &Store{db: db, keep: keepMost}, true, nil
}

func open(path string) (db *bbolt.DB, err error) {
	// bbolt panics on some damage instead of returning an error.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s is damaged: %v", path, p)
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketDigests, bucketVersions} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
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
	Used  time.Time `json:"used"`
}

// get returns what is remembered for a key.
func (s *Store) get(bucket, key string) (value string, ok bool) {
	if s == nil {
		return "", false
	}
	_ = s.db.View(func(tx *bbolt.Tx) error {
		var v verdict
		if raw := tx.Bucket([]byte(bucket)).Get([]byte(key)); raw != nil && json.Unmarshal(raw, &v) == nil {
			value, ok = v.Value, true
		}
		return nil
	})
	return value, ok
}

// put remembers a value, and drops the oldest when there are too many.
func (s *Store) put(bucket, key, value string) error {
	if s == nil {
		return nil
	}
	raw, err := json.Marshal(verdict{Value: value, Used: time.Now()})
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if err := b.Put([]byte(key), raw); err != nil {
			return err
		}
		return trim(b, s.keep)
	})
}

func trim(b *bbolt.Bucket, keep int) error {
	if b.Inspect().KeyN <= keep {
		return nil
	}
	var oldest []byte
	var since time.Time
	err := b.ForEach(func(k, raw []byte) error {
		var v verdict
		if json.Unmarshal(raw, &v) != nil || oldest == nil || v.Used.Before(since) {
			oldest, since = append([]byte(nil), k...), v.Used
		}
		return nil
	})
	if err != nil || oldest == nil {
		return err
	}
	return b.Delete(oldest)
}
