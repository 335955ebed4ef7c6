// Package baselines keeps measurements of engines in a file that outlives the manager.
//
// It owns the file's entries and their bound. It is only a cache: what is lost is measured again.
// It must not know when something is measured.
package baselines

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/units/boltfile"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// The file's buckets: rows by the key of their identity, and the key that each replica of a pool
// served with last.
const (
	bucketRows = "measurements"
	bucketLast = "last"
)

// Most is how many rows are kept, the most recently used.
const Most = 256

// useStep is how old the time of a row's last use may be before it is written again.
const useStep = time.Hour

// Store has the measurements of this host. Its methods may be called from any goroutine. A nil
// *Store has none.
type Store struct {
	file *boltfile.File
	now  func() time.Time
}

// Open opens or makes the store. There is always one to work with: report is called, now or later,
// where something was wrong. On a disk that cannot be written, nothing is kept.
func Open(path string, now func() time.Time, report func(boltfile.Report)) *Store {
	return &Store{boltfile.Open(path, []string{bucketRows, bucketLast}, report), now}
}

// Check writes the file again if another process deleted or replaced it.
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

// entry is a row in the file, or the key in bucketLast.
type entry struct {
	Used time.Time `json:"used"`
	Row  *perf.Row `json:"row,omitempty"`
	Key  string    `json:"key,omitempty"`
}

// parse reads an entry of a bucket; ok is false for one that cannot be used.
func parse(bucket string, raw []byte) (e entry, ok bool) {
	if json.Unmarshal(raw, &e) != nil {
		return entry{}, false
	}
	if bucket == bucketLast {
		return e, e.Key != ""
	}
	if e.Row == nil || !e.Row.Last.Valid() {
		return entry{}, false
	}
	if e.Row.Former != nil && !e.Row.Former.Valid() {
		e.Row.Former = nil
	}
	return e, true
}

func (s *Store) get(bucket, key string) (e entry, ok bool) {
	if s == nil {
		return entry{}, false
	}
	_ = s.file.View(func(tx *bbolt.Tx) error { // what cannot be read is measured again
		if b := tx.Bucket([]byte(bucket)); b != nil {
			if raw := b.Get([]byte(key)); raw != nil {
				e, ok = parse(bucket, raw)
			}
		}
		return nil
	})
	return e, ok
}

// Row returns the row of a key.
func (s *Store) Row(key string) (perf.Row, bool) {
	e, ok := s.get(bucketRows, key)
	if !ok {
		return perf.Row{}, false
	}
	return *e.Row, true
}

// Last returns the row that a replica of a pool served with before, which Serves has recorded.
func (s *Store) Last(replica string) (perf.Row, bool) {
	e, ok := s.get(bucketLast, replica)
	if !ok {
		return perf.Row{}, false
	}
	return s.Row(e.Key)
}

// Serves records that a replica serves with a key, and that its row is in use.
func (s *Store) Serves(replica, key string) error {
	if s == nil {
		return nil
	}
	now := s.now()
	last, known := s.get(bucketLast, replica)
	row, measured := s.get(bucketRows, key)
	fresh := func(e entry) bool { return now.Sub(e.Used) < useStep && !e.Used.After(now) }
	if known && last.Key == key && fresh(last) && (!measured || fresh(row)) {
		return nil
	}
	return s.update(func(rows, lasts *bbolt.Bucket) error {
		err := put(lasts, replica, entry{Used: now, Key: key})
		if measured {
			row.Used = now
			err = errors.Join(err, put(rows, key, row))
		}
		return err
	})
}

// Put keeps a measurement, and the one before it as the former.
func (s *Store) Put(i perf.Identity, r perf.Result) error {
	if s == nil {
		return nil
	}
	key, now := i.Key(), s.now()
	return s.update(func(rows, _ *bbolt.Bucket) error {
		row := perf.Row{Identity: i, Last: r}
		if raw := rows.Get([]byte(key)); raw != nil {
			if e, ok := parse(bucketRows, raw); ok {
				row = e.Row.With(r)
				row.Identity = i // the same files may have another name
			}
		}
		return put(rows, key, entry{Used: now, Row: &row})
	})
}

// update changes the buckets and keeps their bound. That the file could not be opened was reported
// then, and is no error of each change.
func (s *Store) update(change func(rows, lasts *bbolt.Bucket) error) error {
	open := s.file.Readable()
	err := s.file.Update(func(tx *bbolt.Tx) error {
		rows, lasts := tx.Bucket([]byte(bucketRows)), tx.Bucket([]byte(bucketLast))
		if err := change(rows, lasts); err != nil {
			return err
		}
		return errors.Join(trim(bucketRows, rows), trim(bucketLast, lasts))
	})
	if !open {
		return nil
	}
	return err
}

func put(b *bbolt.Bucket, key string, e entry) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}

// trim drops what was not used for the longest time; what cannot be read is dropped first.
func trim(bucket string, b *bbolt.Bucket) error {
	type aged struct {
		key  []byte
		used time.Time
	}
	var all []aged
	err := b.ForEach(func(key, raw []byte) error {
		e, _ := parse(bucket, raw)
		all = append(all, aged{bytes.Clone(key), e.Used})
		return nil
	})
	slices.SortFunc(all, func(a, b aged) int { return a.used.Compare(b.used) })
	for len(all) > Most {
		err, all = errors.Join(err, b.Delete(all[0].key)), all[1:]
	}
	return err
}
