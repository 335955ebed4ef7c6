// Package library reads the cache of models: which are there, whether they are whole, how large
// they are and when each was last used. The cache has the layout of Hugging Face's tools, which may
// share it.
//
// It owns how that layout is read. It downloads nothing, and must not know what a pool is.
package library

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/regular"
)

// Whole is whether everything of a model is there.
type Whole int

// The values.
const (
	No      Whole = iota
	Unknown       // something is there, and nothing lists what belongs to it
	Yes
)

// Found is what the cache has of a model.
type Found struct {
	Path   string // what an engine opens; empty: nothing
	Commit string // name of the snapshot
	Whole  Whole
}

// Find looks for a model in the cache. It opens the lists of files that are there and no content,
// and believes neither: a name that leads out of the artefact's directory is not followed.
func Find(cacheDir string, ref modelref.Ref) Found {
	directory := ref.Directory()
	if cacheDir == "" || directory == "" {
		return Found{}
	}
	dir := filepath.Join(cacheDir, directory)
	commit := commitOf(dir, ref)
	if commit == "" {
		return Found{}
	}
	snapshot := filepath.Join(dir, "snapshots", commit)
	if !isDir(snapshot) {
		return Found{}
	}
	if ref.Scheme == modelref.Image {
		return findImage(snapshot, commit, ref)
	}
	files, listed := readTree(dir, commit)
	return find(snapshot, commit, ref, files, listed)
}

// commitOf returns the snapshot that a reference means; empty: none is known.
func commitOf(dir string, ref modelref.Ref) string {
	revision := ref.Commit()
	if revision == "" {
		revision = ref.Branch()
	}
	if text, err := readSmall(filepath.Join(dir, "refs", filepath.FromSlash(revision))); err == nil {
		if commit := strings.TrimSpace(string(text)); plain(commit) {
			return commit
		}
	}
	if plain(revision) && isDir(filepath.Join(dir, "snapshots", revision)) {
		return revision
	}
	return ""
}

// plain reports whether a name is one element of a path.
func plain(name string) bool {
	return name != "" && len(name) <= 128 && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// readSmall reads a file of which much would be an error.
func readSmall(name string) ([]byte, error) {
	const most = 4096
	f, _, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s is too long", name)
	}
	return text, err
}

// listedFile is a file of a commit, as trees/COMMIT.json has it.
type listedFile struct {
	Size   int64  `json:"size"`
	BlobID string `json:"blob_id"`
	SHA256 string `json:"lfs_sha256"`
}

// treeMost bounds such a list in bytes.
const treeMost = 16 << 20

// readTree returns the files of a commit, and false where nothing lists them.
func readTree(dir, commit string) (map[string]listedFile, bool) {
	f, _, err := regular.Open(filepath.Join(dir, "trees", commit+".json"))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	var tree struct {
		Files map[string]listedFile `json:"files"`
	}
	if err := json.NewDecoder(io.LimitReader(f, treeMost)).Decode(&tree); err != nil || len(tree.Files) == 0 {
		return nil, false
	}
	return tree.Files, true
}

// find evaluates a snapshot.
func find(snapshot, commit string, ref modelref.Ref, files map[string]listedFile, listed bool) Found {
	if ref.Scheme != modelref.HF && !ref.Own() && !listed {
		return Found{}
	}
	wanted := chosen(snapshot, ref, files, listed)
	if len(wanted.Files) == 0 {
		return Found{}
	}
	found := Found{Commit: commit, Whole: Yes, Path: filepath.Join(snapshot, filepath.FromSlash(wanted.Open))}
	for _, name := range wanted.Files {
		switch size, err := sizeOf(filepath.Join(snapshot, filepath.FromSlash(name))); {
		case errors.Is(err, fs.ErrNotExist), listed && err == nil && size != files[name].Size:
			return Found{Commit: commit}
		case err != nil:
			return Found{Commit: commit}
		}
	}
	// A program of the host's own names the snapshot in refs when all of it is there.
	if !listed && !ref.Own() && (wanted.Open == "" || wanted.Loose) {
		found.Whole = Unknown
	}
	return found
}

// chosen is what a reference means of a snapshot; nothing where that is not there.
func chosen(snapshot string, ref modelref.Ref, files map[string]listedFile, listed bool) modelref.Choice {
	names := make([]string, 0, len(files))
	for name := range files {
		if filepath.IsLocal(name) {
			names = append(names, name)
		}
	}
	if !listed {
		names = namesIn(snapshot)
	}
	c, _ := ref.Choose(names) // the zero Choice with an error
	return c
}

// namesMost bounds the files of a snapshot.
const namesMost = 4096

// namesIn are the files of a snapshot that nothing lists.
func namesIn(snapshot string) (names []string) {
	_ = filepath.WalkDir(snapshot, func(p string, e fs.DirEntry, err error) error {
		if err != nil || len(names) == namesMost {
			return fs.SkipAll
		}
		if !e.IsDir() {
			if name, err := filepath.Rel(snapshot, p); err == nil {
				names = append(names, path.Clean(filepath.ToSlash(name)))
			}
		}
		return nil
	})
	return names
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// sizeOf returns the size of what a link of a snapshot leads to.
func sizeOf(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is not a file", name)
	}
	return info.Size(), nil
}
