package memory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Peaks remembers the peak memory use of replicas, over restarts of the manager. All methods are
// safe for concurrent use.
type Peaks interface {
	// Peak returns the peak of a key (see Key), in bytes by the position of the device in the mask;
	// ok is false if none is known.
	Peak(key string) (devices []uint64, ok bool)
	// Record records a sample of a run that has been ready. Within one run a record only grows; a
	// later run replaces it, so that a need can also fall. Samples of earlier runs are dropped, so
	// replicas of one key do not overwrite each other's.
	Record(key string, s Sample) error
}

// Sample is how much memory of its devices one run of a replica uses.
type Sample struct {
	Run     string    // the unit's invocation id
	Started time.Time // when the run began
	Devices []uint64  // bytes by the position in the mask
}

// Key identifies everything that affects how much memory a replica takes: the model, the engine and
// its version, its flags and environment in the pool file, and the sizes of its devices in order.
// Values are hashed, so it reveals no secret. Two replicas of one pool on devices of the same sizes
// share a key.
func Key(p pool.Pool, staged pool.Staged, version string, targets []devices.Target) string {
	totals := make([]uint64, len(targets))
	for i, t := range targets {
		totals[i] = t.Total
	}
	text, err := json.Marshal([]any{ // maps are written sorted
		"v1", p.Engine, version, identity(staged), p.Ctx, p.Slots, p.TensorSplit, p.Args, p.Variables(), p.Provisioning.Binary, totals,
	})
	if err != nil {
		return "" // no value above can fail: a NaN in tensor_split is rejected when the file is read
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// identity returns the model's digest, or path, size and time of each of its files.
func identity(staged pool.Staged) []string {
	if staged.Digest != "" {
		return []string{staged.Digest}
	}
	id := []string{staged.Path, fmt.Sprint(staged.SizeBytes)}
	for _, path := range staged.Files {
		if info, err := os.Stat(path); err == nil {
			id = append(id, fmt.Sprintf("%s|%d|%d", path, info.Size(), info.ModTime().UnixNano()))
		}
	}
	return id
}
