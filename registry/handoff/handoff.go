// Package handoff keeps the directory of hand-off files: one small JSON file for each replica that is ready now,
// for programs on this host that look for an engine without asking the API.
//
// It owns the files' names and fields. It must not know when a replica is ready: the caller
// writes on ready and removes when not.
package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/pool-managerd/pool-managerd/registry"
)

const suffix = ".json"

// File is what a hand-off file holds.
type File struct {
	URL           string   `json:"url"`
	PoolID        string   `json:"pool_id"`
	ReplicaID     string   `json:"replica_id"`
	Engine        string   `json:"engine"`
	EngineVersion string   `json:"engine_version"`
	ModelID       string   `json:"model_id"`
	DeviceMask    []string `json:"device_mask"`
	SlotsTotal    int      `json:"slots_total"`
	SlotsFree     int      `json:"slots_free"`
}

// Dir is the directory, usually /run/pool-managerd/engines. Its methods may be called at the same time for
// different replicas.
type Dir struct{ path string }

// New returns the directory; it is made when the first file is written.
func New(path string) *Dir { return &Dir{path: path} }

// Write puts a replica's file in place. A reader sees the former file or the new one, never a part: it is
// written beside and renamed.
func (d *Dir) Write(p registry.Pool, r registry.Replica) error {
	path, err := d.file(p.ID, r.ID)
	if err != nil {
		return err
	}
	f := File{
		URL: r.Endpoint, PoolID: p.ID, ReplicaID: r.ID, Engine: p.Engine, EngineVersion: r.EngineVersion,
		ModelID: p.ModelID, DeviceMask: r.DeviceMask, SlotsTotal: r.SlotsTotal, SlotsFree: r.SlotsFree,
	}
	if f.DeviceMask == nil {
		f.DeviceMask = []string{} // a list in JSON, also where it is empty
	}
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("hand-off file %s: %w", path, err)
	}
	if err := d.make(); err != nil {
		return fmt.Errorf("hand-off directory: %w", err)
	}
	if err := replace(path, append(body, '\n')); err != nil {
		return fmt.Errorf("hand-off file %s: %w", path, err)
	}
	return nil
}

// make makes the directory where it is missing, open to every reader whatever the umask.
func (d *Dir) make() error {
	if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	return os.Chmod(d.path, 0o755)
}

// replace writes a world-readable file atomically, whatever the umask.
func replace(path string, body []byte) error {
	pending, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer pending.Cleanup()
	if _, err := pending.Write(body); err != nil {
		return err
	}
	return pending.CloseAtomicallyReplace()
}

// Remove deletes a replica's file; one that is not there is no error.
func (d *Dir) Remove(poolID, replicaID string) error {
	path, err := d.file(poolID, replicaID)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hand-off file: %w", err)
	}
	return nil
}

// RemoveStale deletes every file for which keep says no, and what an interrupted Write left. Call it once at start,
// before any Write. Whatever else lies in the directory is left alone. It goes on after an error
// and returns them all.
func (d *Dir) RemoveStale(keep func(poolID, replicaID string) bool) error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hand-off directory: %w", err)
	}
	var failed []error
	for _, e := range entries {
		if !stale(e.Name(), keep) {
			continue
		}
		if err := os.Remove(filepath.Join(d.path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func stale(name string, keep func(poolID, replicaID string) bool) bool {
	if strings.HasPrefix(name, ".") {
		// renameio's temporary names are a dot, the file's name and digits
		return strings.Contains(name, suffix)
	}
	stem, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return false
	}
	dot := strings.LastIndexByte(stem, '.')
	return dot > 0 && !keep(stem[:dot], stem[dot+1:])
}

// file returns the path for a replica; names that would leave the directory or hide the file are refused.
func (d *Dir) file(poolID, replicaID string) (string, error) {
	if !plain(poolID) || !plain(replicaID) || strings.Contains(replicaID, ".") {
		return "", fmt.Errorf("hand-off file of pool %q, replica %q: not a file name", poolID, replicaID)
	}
	return filepath.Join(d.path, poolID+"."+replicaID+suffix), nil
}

func plain(s string) bool {
	return s != "" && s[0] != '.' && !strings.ContainsAny(s, "/\x00")
}
