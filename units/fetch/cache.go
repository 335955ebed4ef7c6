package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// cache is the directory of one artefact, in the layout of huggingface_hub. Everything in it is
// reached through an os.Root: a link that another user of the cache made leads nowhere else.
type cache struct {
	root *os.Root
	dir  string // absolute
	lock *os.File

	linking sync.Mutex // links have one temporary name
}

// Suffixes of files in blobs. huggingface_hub names incomplete files <etag>.<8 hexadecimal
// digits>.incomplete, and removes none of others; ours have fixed digits ("pool").
const (
	incomplete = ".706f6f6c.incomplete"
	ranges     = ".706f6f6c.ranges" // which parts of it are there
	wrong      = ".wrong"           // whole, with another digest than wanted
)

func openCache(r wire.Request) (*cache, error) {
	dir := filepath.Join(r.CacheDir, r.Directory)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, onDisk(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, onDisk(err)
	}
	c := &cache{root: root, dir: dir}
	for _, name := range []string{"blobs", "refs", "snapshots", "trees"} {
		if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			root.Close()
			return nil, onDisk(err)
		}
	}
	return c, nil
}

// hold takes the lock of the directory, and waits for another program that has it. Any user who may
// read the file could hold it: no other user may.
func (c *cache) hold(ctx context.Context, most time.Duration) error {
	f, err := c.root.OpenFile(".pool-fetch.lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return onDisk(err)
	}
	_ = f.Chmod(0o600) // of one that was made before; another user's stays as it is
	for until := time.Now().Add(most); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			c.lock = f
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			f.Close()
			return onDisk(err)
		case time.Now().After(until):
			f.Close()
			return &Failure{Reason: wire.Busy, Message: "another program fetches into " + c.dir,
				Hint: "Wait for it, or end it."}
		}
		if err := sleep(ctx, min(100*time.Millisecond, most)); err != nil {
			f.Close()
			return err
		}
	}
}

func (c *cache) close() {
	if c.lock != nil {
		c.lock.Close()
	}
	c.root.Close()
}

// size returns the size of a complete blob, -1 if there is none.
func (c *cache) size(blob string) int64 {
	info, err := c.root.Stat("blobs/" + blob)
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	return info.Size()
}

// has reports whether a file is there, whole.
func (c *cache) has(f *file) bool { return f.size >= 0 && c.size(f.blob) == f.size }

// placed reports whether a snapshot has a file already, as a link or, from programs on file systems
// without links, as a file of its own.
func (c *cache) placed(commit string, f *file) bool {
	info, err := c.root.Stat(path.Join("snapshots", commit, f.path))
	return err == nil && info.Mode().IsRegular() && info.Size() == f.size
}

// link puts a complete blob into a snapshot, as huggingface_hub does: by a relative link.
func (c *cache) link(commit string, f *file) error {
	name := path.Join("snapshots", commit, f.path)
	up := strings.Repeat("../", strings.Count(name, "/"))
	to := up + "blobs/" + f.blob
	if is, err := c.root.Readlink(name); err == nil && is == to {
		return nil
	}
	if err := c.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return onDisk(err)
	}
	c.linking.Lock()
	defer c.linking.Unlock()
	temporary := path.Join("snapshots", commit, ".pool-fetch.link")
	_ = c.root.Remove(temporary) // of a run that was killed
	if err := c.root.Symlink(to, temporary); err != nil {
		return onDisk(err)
	}
	return onDisk(c.root.Rename(temporary, name))
}

// ref records which commit a revision means.
func (c *cache) ref(revision, commit string) error {
	name := path.Join("refs", revision)
	if err := c.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return onDisk(err)
	}
	return c.replace(name, []byte(commit))
}

// replace writes a small file that readers see whole or not at all.
func (c *cache) replace(name string, data []byte) error {
	if old, err := c.read(name, int64(len(data))); err == nil && string(old) == string(data) {
		return nil
	}
	const temporary = "refs/.pool-fetch.new"
	f, err := c.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return onDisk(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = c.root.Rename(temporary, name)
	}
	return onDisk(err)
}

// read returns a file of at most so many bytes.
func (c *cache) read(name string, most int64) ([]byte, error) {
	f, err := c.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return data, err
}

// free returns how many bytes a user may still write.
func (c *cache) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(c.dir, &st); err != nil {
		return 0, onDisk(err)
	}
	return int64(min(st.Bavail, 1<<40)) * st.Bsize, nil
}

// settle waits until the directories' entries are on the disk.
func (c *cache) settle(commit string) error {
	for _, name := range []string{"blobs", "refs", "trees", path.Join("snapshots", commit)} {
		d, err := c.root.Open(name)
		if err != nil {
			return onDisk(err)
		}
		err = d.Sync()
		d.Close()
		if err != nil && !errors.Is(err, unix.EINVAL) { // a file system that cannot
			return onDisk(err)
		}
	}
	return nil
}

// listing is the form of trees/<commit>.json, as huggingface_hub writes and reads it.
type listing struct {
	Format int               `json:"format_version"`
	Files  map[string]listed `json:"files"`
}

type listed struct {
	Size   int64  `json:"size"`
	Blob   string `json:"blob_id"`
	SHA256 string `json:"lfs_sha256,omitempty"`
	LFS    int64  `json:"lfs_size,omitempty"`
	Xet    string `json:"xet_hash,omitempty"`
}

// saveTree writes the listing of a snapshot, by which its completeness can be checked offline.
func (c *cache) saveTree(commit string, tree []*file) error {
	l := listing{Format: 1, Files: make(map[string]listed, len(tree))}
	for _, f := range tree {
		e := listed{Size: f.size, Blob: f.git, Xet: f.xet}
		if f.sum.algorithm == bySHA256 {
			e.SHA256, e.LFS = f.sum.hex, f.size
		}
		if e.Blob == "" {
			e.Blob = f.blob
		}
		l.Files[f.path] = e
	}
	data, err := json.Marshal(l)
	if err != nil {
		return onDisk(err)
	}
	return c.replace("trees/"+commit+".json", data)
}

// tree returns the listing of a commit of the hub, nil if there is none that can be used.
func (c *cache) tree(commit string) []*file {
	if commit == "" {
		return nil
	}
	data, err := c.read("trees/"+commit+".json", maxJSON)
	var l listing
	if err != nil || json.Unmarshal(data, &l) != nil || l.Format != 1 {
		return nil
	}
	files := make([]*file, 0, len(l.Files))
	for name, e := range l.Files {
		f := &file{path: name, size: e.Size, blob: e.Blob, git: e.Blob, xet: e.Xet, sum: sum{byGit, e.Blob}}
		if e.SHA256 != "" {
			f.blob, f.sum = e.SHA256, sum{bySHA256, e.SHA256}
			if e.LFS > 0 {
				f.size = e.LFS
			}
		}
		if !f.plausible() {
			return nil
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil
	}
	sortFiles(files)
	return files
}
