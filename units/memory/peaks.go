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

// Peaks remembers what replicas took at most, over restarts of the manager. All methods are safe
// for concurrent use.
type Peaks interface {
	// Peak returns the peak under a key of Key, in bytes by the position of the device in the mask;
	// ok is false where none is known.
	Peak(key string) (devices []uint64, ok bool)
	// Record notes a sample of a run that has been ready. Within one run a record only grows; a run
	// that began later replaces it, so that a need can fall too; samples of earlier runs are
	// dropped, so that replicas of one key do not undo each other's.
	Record(key string, s Sample) error
}

// Sample is what one run of a replica holds of its devices.
type Sample struct {
	Run     string    // the unit's invocation id
	Started time.Time // when the run began
	Devices []uint64  // bytes by the position in the mask
}

// Key names everything that changes how much memory a replica takes, and nothing else: the model's
// identity, the engine and its version, what the pool file says of its flags and environment, and
// the sizes of its devices in order. It is no secret: values are hashed. Two replicas of one pool
// on like devices share a key.
func Key(p pool.Pool, staged pool.Staged, version string, targets []devices.Target) string {
	totals := make([]uint64, len(targets))
	for i, t := range targets {
		totals[i] = t.Total
	}
	text, err := json.Marshal([]any{ // maps are written sorted
		"v1", p.Engine, version, identity(staged), p.Ctx, p.Slots, p.TensorSplit, p.Args, p.Env, p.Provisioning.Binary, totals,
	})
	if err != nil {
		return "" // no value above can fail; a NaN in tensor_split is refused when the file is read
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// identity is the model's digest, or path, size and time of each of its files.
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
