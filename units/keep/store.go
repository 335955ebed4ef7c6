package keep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
)

// intents is the bucket with one intent a pool, by id. A form that older programs cannot read gets
// another name.
const intents = "intents.1"

// unread is the bucket with the last entry of a pool that could not be read and was replaced:
// nothing that an operator asked for is lost silently.
const unread = "unread.1"

// Store is the file of intents. Its methods may be called from any goroutine; each write is on
// disk when it returns.
type Store struct {
	path string
	file *boltfile.File
}

// Open opens or makes the file. There is always a store to work with: report is called, now or
// later, where something was wrong. Where the disk cannot be written, the store holds what could
// be read, nothing where Readable is false, and each Put tries to open the file again.
func Open(path string, report func(boltfile.Report)) *Store {
	return &Store{path: path, file: boltfile.Open(path, []string{intents}, report)}
}

// Readable reports whether what was written before is known.
func (s *Store) Readable() bool { return s.file.Readable() }

// Check writes the file again if another process deleted or replaced it; report is called then.
func (s *Store) Check() { s.file.Check() }

// Close closes the file.
func (s *Store) Close() error { return s.file.Close() }

// Intents returns every intent by pool. An entry that cannot be read is left out and stays in the
// file; its error is joined to err.
func (s *Store) Intents() (map[string]Intent, error) {
	list := make(map[string]Intent)
	if !s.Readable() {
		return list, nil
	}
	var odd []error
	err := s.file.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(intents))
		if b == nil { // the disk was full when the file was made
			return nil
		}
		return b.ForEach(func(id, text []byte) error {
			var i Intent
			if err := json.Unmarshal(text, &i); err != nil {
				odd = append(odd, fmt.Errorf("the intent of pool %s: %w", id, err))
				return nil
			}
			list[string(id)] = i
			return nil
		})
	})
	return list, errors.Join(append(odd, err)...)
}

// Put writes an intent in place of the pool's former one; an empty one is forgotten. The error is a
// *registry.Failure.
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
	return registry.Fail(registry.CodeStateNotSaved, "it could not be saved, so nothing was changed: "+err.Error(),
		hint)
}

func (s *Store) put(id string, i Intent) error {
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return s.file.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(intents))
		if err := setAside(tx, []byte(id)); err != nil {
			return err
		}
		if i.Empty() {
			return b.Delete([]byte(id))
		}
		return b.Put([]byte(id), text)
	})
}

// setAside keeps an entry that cannot be read from being overwritten.
func setAside(tx *bbolt.Tx, id []byte) error {
	var i Intent
	text := tx.Bucket([]byte(intents)).Get(id)
	if text == nil || json.Unmarshal(text, &i) == nil {
		return nil
	}
	aside, err := tx.CreateBucketIfNotExists([]byte(unread))
	if err != nil {
		return err
	}
	return aside.Put(id, bytes.Clone(text))
}
