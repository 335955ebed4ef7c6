package lease

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

// Store keeps leases over the death of the manager. Save is called by one goroutine.
type Store interface {
	Load() ([]Lease, error)
	// Save writes some leases and forgets others, all or nothing.
	Save(put []Lease, drop []string) error
}

// File is the Store: a bbolt file on a file system of this boot (/run), so that nothing is left after a reboot, when no
// lease can be true.
type File struct{ db *bbolt.DB }

var bucket = []byte("leases")

// lockWait is how long a second process waits for the file of the first.
const lockWait = 2 * time.Second

// OpenFile opens or makes the file. One that is damaged is moved aside to path.broken and made anew; moved says so.
func OpenFile(path string) (f *File, moved bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, false, fmt.Errorf("the folder of the leases: %w", err)
	}
	f, err = openFile(path)
	if err == nil {
		return f, false, nil
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, false, fmt.Errorf("%s is held by another process; is a second daemon running? %w", path, err)
	}
	if err := os.Rename(path, path+".broken"); err != nil {
		return nil, false, fmt.Errorf("the damaged file of the leases: %w", err)
	}
	f, err = openFile(path)
	return f, true, err
}

func openFile(path string) (*File, error) {
	// The file is in memory: there is no disk to wait for, and a killed process loses nothing that it wrote. The freelist is found
	// again when the file is opened.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoSync: true, NoFreelistSync: true, NoGrowSync: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return &File{db}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.db.Close() }

// Load implements Store. An entry that cannot be read is left out: its lease ends, as one that expired.
func (f *File) Load() (list []Lease, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(id, text []byte) error {
			var l Lease
			if json.Unmarshal(text, &l) == nil && l.ID == string(id) && l.Pool != "" {
				list = append(list, l)
			}
			return nil
		})
	})
	return list, err
}

// Save implements Store.
func (f *File) Save(put []Lease, drop []string) error {
	return f.db.Update(func(tx *bbolt.Tx) error {
		leases := tx.Bucket(bucket)
		for _, l := range put {
			text, err := json.Marshal(l)
			if err != nil {
				return err
			}
			if err := leases.Put([]byte(l.ID), text); err != nil {
				return err
			}
		}
		for _, id := range drop {
			if err := leases.Delete([]byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
}
