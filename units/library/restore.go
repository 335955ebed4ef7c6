package library

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// spare is what an import leaves free of a file system, in bytes.
const spare = 64 << 20

// restore is an import under way. All that it writes is below the artefact's directory, whatever
// links are there.
type restore struct {
	root  *os.Root
	index index
	ref   modelref.Ref
	left  map[string]indexed // blobs that are still to come, by name
	made  []string           // blobs that were not there before
}

// Import reads an archive into a cache. Nothing of it is believed: what is no blob of its index is
// refused, sizes and digests are compared, and a file gets its name when it is whole. A model that
// is there is completed, and a branch that means another commit there is left alone.
func Import(ctx context.Context, cacheDir string, from io.Reader) (Moved, error) {
	r := tar.NewReader(stopping{ctx, from})
	h, err := r.Next()
	if err != nil || h.Name != indexName || h.Typeflag != tar.TypeReg || h.Size > indexMost {
		return Moved{}, errors.Join(errors.New("it is no archive of poolctl models export: it has no index"), err)
	}
	text, err := io.ReadAll(io.LimitReader(r, indexMost))
	if err != nil {
		return Moved{}, err
	}
	x, ref, err := readIndex(text)
	if err != nil {
		return Moved{}, err
	}
	to, unlock, err := openArtefact(cacheDir, ref.Directory())
	if err != nil {
		return Moved{}, err
	}
	defer unlock()
	in := restore{root: to, index: x, ref: ref, left: make(map[string]indexed)}
	if err := in.prepare(); err != nil {
		return Moved{}, err
	}
	moved, err := in.blobs(r)
	if err == nil {
		err = in.name()
	}
	if err != nil {
		for _, blob := range in.made {
			_ = to.Remove("blobs/" + blob)
		}
		return moved, err
	}
	found := Find(cacheDir, ref)
	if moved.Path = found.Path; found.Whole == No {
		return moved, fmt.Errorf("the archive has not all of %s", ref)
	}
	return moved, nil
}

// openArtefact makes and locks the directory of an artefact.
func openArtefact(cacheDir, directory string) (root *os.Root, unlock func(), err error) {
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, nil, err
	}
	name := filepath.Join(cacheDir, directory)
	if err := os.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	if info, err := os.Lstat(name); err != nil || !info.IsDir() {
		return nil, nil, fmt.Errorf("%s is not a directory", name)
	}
	if root, err = os.OpenRoot(name); err != nil {
		return nil, nil, err
	}
	// One that is made here is removed: it would be root's, and no download could open it.
	made := true
	lock, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		made = false
		lock, err = root.OpenFile(lockFile, os.O_RDWR, 0)
	}
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	unlock = func() {
		if made {
			_ = root.Remove(lockFile)
		}
		lock.Close()
		root.Close()
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		made = false
		unlock()
		return nil, nil, ErrBusy
	}
	return root, unlock, nil
}

// prepare finds out which blobs are missing, and whether there is space for them.
func (in *restore) prepare() error {
	if _, err := in.branch(); err != nil {
		return err
	}
	if err := in.root.MkdirAll("blobs", 0o755); err != nil {
		return err
	}
	need := int64(0)
	for _, f := range in.index.Files {
		info, err := in.root.Lstat("blobs/" + f.Blob)
		if err == nil && info.Mode().IsRegular() && info.Size() == f.Size {
			continue
		}
		if _, twice := in.left[f.Blob]; !twice {
			in.left[f.Blob] = f
			need += f.Size
		}
	}
	var st unix.Statfs_t
	dir, err := in.root.Open("blobs")
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; need > 0 && need+spare > free {
		return fmt.Errorf("it needs %d bytes, and %d are free in %s", need, free, dir.Name())
	}
	return nil
}

// blobs reads the members of the archive, each of which has to be a blob of the index.
func (in *restore) blobs(r *tar.Reader) (Moved, error) {
	moved := Moved{Model: in.index.Model, Files: len(in.index.Files)}
	known := make(map[string]indexed)
	for _, f := range in.index.Files {
		known[f.Blob] = f
	}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return moved, fmt.Errorf("the archive cannot be read: %w", err)
		}
		blob, below := strings.CutPrefix(h.Name, "blobs/")
		f, expected := known[blob]
		delete(known, blob)
		if !below || !expected || h.Typeflag != tar.TypeReg || h.Size != f.Size {
			return moved, fmt.Errorf("the archive has %.200q, which is no file of its index", h.Name)
		}
		if _, missing := in.left[blob]; !missing {
			continue
		}
		if err := in.write(f, r); err != nil {
			return moved, err
		}
		moved.Bytes += f.Size
		delete(in.left, blob)
	}
	for _, f := range in.left {
		return moved, fmt.Errorf("the archive ends without %s", f.Path)
	}
	return moved, nil
}

// write writes one blob, and gives it its name once its digests are right.
func (in *restore) write(f indexed, from io.Reader) (err error) {
	name, temporary := "blobs/"+f.Blob, "blobs/"+f.Blob+".import"
	_ = in.root.Remove(temporary) // of an import that was killed
	to, err := in.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = in.root.Remove(temporary)
		}
	}()
	sums := map[string]hash.Hash{f.SHA256: sha256.New()}
	if f.Blob != f.SHA256 {
		sums[f.Blob] = sha1.New()
		fmt.Fprintf(sums[f.Blob], "blob %d\x00", f.Size)
	}
	all := []io.Writer{to}
	for _, sum := range sums {
		all = append(all, sum)
	}
	_, err = io.CopyBuffer(io.MultiWriter(all...), from, make([]byte, 256<<10))
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	for want, sum := range sums {
		if hex.EncodeToString(sum.Sum(nil)) != want {
			return fmt.Errorf("%s is not what its digest says", f.Path)
		}
	}
	if err := in.root.Rename(temporary, name); err != nil {
		return err
	}
	in.made = append(in.made, f.Blob)
	return nil
}

// name makes the snapshot, the list of the commit and the branch.
func (in *restore) name() error {
	commit := in.index.Commit
	branch, err := in.branch()
	if err != nil {
		return err
	}
	for _, f := range in.index.Files {
		if err := in.link(path.Join("snapshots", commit, f.Path), f.Blob); err != nil {
			return err
		}
	}
	if in.index.Tree != nil {
		if err := in.file(path.Join("trees", commit+".json"), in.index.Tree); err != nil {
			return err
		}
	}
	if branch == "" {
		return nil
	}
	return in.file(branch, []byte(commit))
}

// branch returns the file of the branch that the reference names; empty for a commit.
func (in *restore) branch() (string, error) {
	commit := in.index.Commit
	if in.ref.Commit() != "" || in.ref.Branch() == commit {
		return "", nil
	}
	name := path.Join("refs", in.ref.Branch())
	has, err := in.root.ReadFile(name)
	if err == nil && strings.TrimSpace(string(has)) != commit {
		return "", fmt.Errorf("%s means another version in the cache, %.40q: remove that (poolctl models rm), or "+
			"export the model by its commit, %s", in.ref.Branch(), has, commit)
	}
	return name, nil
}

// link makes the relative link of a snapshot to a blob, in place of what is there.
func (in *restore) link(name, blob string) error {
	to := strings.Repeat("../", strings.Count(name, "/")) + "blobs/" + blob
	if is, err := in.root.Readlink(name); err == nil && is == to {
		return nil
	}
	if err := in.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	const temporary = "blobs/.import"
	_ = in.root.Remove(temporary)
	if err := in.root.Symlink(to, temporary); err != nil {
		return err
	}
	return in.root.Rename(temporary, name)
}

// file writes a small file that readers see whole or not at all.
func (in *restore) file(name string, data []byte) error {
	if has, err := in.root.ReadFile(name); err == nil && bytes.Equal(has, data) {
		return nil
	}
	if err := in.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	const temporary = "blobs/.import"
	_ = in.root.Remove(temporary)
	if err := in.root.WriteFile(temporary, data, 0o644); err != nil {
		return err
	}
	return in.root.Rename(temporary, name)
}
