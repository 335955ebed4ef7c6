package memory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// Raised returns by what the need of a key was raised; ok is false if it was not. Whether that
	// still holds, its time says.
	Raised(key string) (r Raised, ok bool)
	// Raise keeps a raised need in place of a former one, and counts how often in a row there was
	// one. Lower forgets it: a run has served.
	Raise(key string, r Raised) error
	Lower(key string) error
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

// identity returns what the files are from which a need follows: the model by its digest where one
// was computed, else by path, size and time of each of its files; what the pool brings along always
// so, since no digest covers it.
func identity(staged pool.Staged) []string {
	own, brought := staged.Files, []string(nil)
	if n := len(staged.Files) - len(staged.Brought); n >= 0 && slices.Equal(staged.Files[n:], staged.Brought) {
		own, brought = staged.Files[:n], staged.Brought
	}
	var id []string
	if staged.Digest != "" {
		id = append(id, staged.Digest)
	} else {
		id = append(id, staged.Path, fmt.Sprint(staged.SizeBytes))
		for _, path := range own {
			id = appendStats(id, path)
		}
	}
	for _, path := range brought {
		id = appendStats(id, path)
	}
	return id
}

// maxStats bounds the files of one identity. A model has fewer; what comes after it does not count.
const maxStats = 4096

// appendStats appends path, size and time of a file, or of each file below a directory. Links are
// followed, since an engine does so, but for those to directories below the first.
func appendStats(id []string, path string) []string {
	info, err := os.Stat(path)
	if err != nil {
		return id
	}
	id = append(id, stat(path, info))
	if !info.IsDir() {
		return id
	}
	_ = filepath.WalkDir(path+"/.", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case len(id) >= maxStats:
			return fs.SkipAll
		case err != nil || entry.IsDir(): // one that cannot be read has no file that counts
			return nil
		}
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			id = append(id, stat(name, info))
		}
		return nil
	})
	return id
}

func stat(path string, info fs.FileInfo) string {
	return fmt.Sprintf("%s|%d|%d", path, info.Size(), info.ModTime().UnixNano())
}
