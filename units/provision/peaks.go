package provision

import (
	"encoding/json"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/units/memory"
)

// The store also keeps the most that replicas took of their devices.
var _ memory.Peaks = (*Store)(nil)

// peakStep is the step to which a peak is rounded up, in bytes, so that the small movements of a
// running engine write nothing.
const peakStep = 1 << 20

// peak is a record under a key of memory.Key.
type peak struct {
	Run     string    `json:"run"`
	Started time.Time `json:"started"`
	Devices []uint64  `json:"devices"` // bytes by the position in the mask
}

// Peak implements memory.Peaks. A nil Store knows none.
func (s *Store) Peak(key string) (devices []uint64, ok bool) {
	raw, ok := s.get(bucketPeaks, key)
	if !ok {
		return nil, false
	}
	var p peak
	if json.Unmarshal([]byte(raw), &p) != nil || len(p.Devices) == 0 {
		return nil, false
	}
	return p.Devices, true
}

// Record implements memory.Peaks. It writes to the disk only when the record changes. A nil Store
// drops the sample.
func (s *Store) Record(key string, sample memory.Sample) error {
	switch {
	case s == nil:
		return nil
	case key == "" || len(sample.Devices) == 0:
		return errors.New("a peak needs a key and a device")
	}
	var old peak
	if raw, ok := s.get(bucketPeaks, key); ok {
		_ = json.Unmarshal([]byte(raw), &old) // one that cannot be read is replaced
	}
	if _, changed := old.merge(sample); !changed {
		return nil
	}
	return s.update(bucketPeaks, func(b *bbolt.Bucket) error { return s.mergeInto(b, key, sample) })
}

// mergeInto reads the record again, since another sample may have been written meanwhile.
func (s *Store) mergeInto(b *bbolt.Bucket, key string, sample memory.Sample) error {
	var v verdict
	var old peak
	if raw := b.Get([]byte(key)); raw != nil && json.Unmarshal(raw, &v) == nil {
		_ = json.Unmarshal([]byte(v.Value), &old)
	}
	merged, changed := old.merge(sample)
	if !changed {
		return nil
	}
	value, err := json.Marshal(merged)
	if err != nil {
		return err
	}
	return s.set(b, key, string(value))
}

// merge returns the record after a sample: of the same run it grows, a run that began later
// replaces it, one that began earlier changes nothing.
func (p peak) merge(s memory.Sample) (merged peak, changed bool) {
	rounded := make([]uint64, len(s.Devices))
	for i, b := range s.Devices {
		rounded[i] = (b + peakStep - 1) / peakStep * peakStep
	}
	if p.Run != s.Run || len(p.Devices) != len(rounded) {
		if len(p.Devices) > 0 && p.Run != s.Run && !s.Started.After(p.Started) {
			return p, false
		}
		return peak{Run: s.Run, Started: s.Started, Devices: rounded}, true
	}
	for i, b := range rounded {
		changed = changed || b > p.Devices[i]
		rounded[i] = max(b, p.Devices[i])
	}
	return peak{Run: p.Run, Started: p.Started, Devices: rounded}, changed
}

// raisedKey is where the raised need of a key is, beside its peak.
func raisedKey(key string) string { return key + ".raised" }

// Raised implements memory.Peaks. A nil Store knows none.
func (s *Store) Raised(key string) (r memory.Raised, ok bool) {
	raw, ok := s.get(bucketPeaks, raisedKey(key))
	if !ok || json.Unmarshal([]byte(raw), &r) != nil {
		return memory.Raised{}, false
	}
	return r, true
}

// Raise implements memory.Peaks. A nil Store drops it. The same run is counted once.
func (s *Store) Raise(key string, r memory.Raised) error {
	if key == "" {
		return errors.New("a raised need needs a key")
	}
	if old, ok := s.Raised(key); ok {
		r.Times = max(old.Times, 1)
		if old.Run != r.Run {
			r.Times++
		}
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.put(bucketPeaks, raisedKey(key), string(value))
}

// Lower implements memory.Peaks. It writes to the disk only where there is something to forget.
func (s *Store) Lower(key string) error {
	if _, ok := s.get(bucketPeaks, raisedKey(key)); !ok {
		return nil
	}
	return s.update(bucketPeaks, func(b *bbolt.Bucket) error { return b.Delete([]byte(raisedKey(key))) })
}
