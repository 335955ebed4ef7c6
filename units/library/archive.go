package library

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/regular"
)

// An archive is a tar file without links: first its index, then each blob. What is a link in the
// cache is made again from the index.
const (
	indexName    = "pool-managerd-model.json"
	indexVersion = 1
	indexMost    = treeMost + 4<<20 // bytes
	filesMost    = 10000
	sizeMost     = 1 << 44 // of one file, in bytes
)

// index is what an archive has.
type index struct {
	Version int             `json:"version"`
	Model   string          `json:"model"`
	Commit  string          `json:"commit"`
	Files   []indexed       `json:"files"`
	Tree    json.RawMessage `json:"tree,omitempty"` // all files of the commit, as trees/COMMIT.json has them
}

// indexed is one file of a model.
type indexed struct {
	Path   string `json:"path"` // in the snapshot
	Blob   string `json:"blob"` // its name in blobs, and in the archive
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Moved is a model that was written into an archive, or read from one.
type Moved struct {
	Model string
	Path  string // what an engine opens, after an import
	Bytes int64
	Files int
}

// Export writes the files of a model that is whole into an archive. Their digests are compared
// while they are written; with an error, the archive is worthless.
func Export(ctx context.Context, cacheDir string, ref modelref.Ref, to io.Writer) (Moved, error) {
	x, err := indexOf(ctx, cacheDir, ref)
	if err != nil {
		return Moved{}, err
	}
	text, err := json.Marshal(x)
	if err != nil {
		return Moved{}, err
	}
	moved := Moved{Model: x.Model, Files: len(x.Files)}
	w := tar.NewWriter(to)
	if err := put(w, indexName, int64(len(text)), bytes.NewReader(text)); err != nil {
		return moved, err
	}
	dir, written := filepath.Join(cacheDir, ref.Directory()), make(map[string]bool)
	for _, f := range x.Files {
		if written[f.Blob] {
			continue
		}
		written[f.Blob] = true
		name := filepath.Join(dir, "snapshots", x.Commit, filepath.FromSlash(f.Path))
		if err := exportFile(ctx, w, name, f); err != nil {
			return moved, err
		}
		moved.Bytes += f.Size
	}
	return moved, w.Close()
}

func exportFile(ctx context.Context, w *tar.Writer, name string, f indexed) error {
	from, _, err := regular.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	sum := sha256.New()
	if err := put(w, "blobs/"+f.Blob, f.Size, io.TeeReader(stopping{ctx, from}, sum)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return fmt.Errorf("%s is not what its digest says; remove the model with poolctl models rm, and download it "+
			"again", name)
	}
	return nil
}

// put writes one member of so many bytes.
func put(w *tar.Writer, name string, size int64, from io.Reader) error {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := io.CopyN(w, from, size)
	return err
}

// indexOf describes the files of a model that is whole.
func indexOf(ctx context.Context, cacheDir string, ref modelref.Ref) (index, error) {
	found := Find(cacheDir, ref)
	if found.Whole == No {
		return index{}, fmt.Errorf("%s is not in the cache, or not whole", ref)
	}
	x := index{Version: indexVersion, Model: ref.String(), Commit: found.Commit}
	dir := filepath.Join(cacheDir, ref.Directory())
	snapshot := filepath.Join(dir, "snapshots", x.Commit)
	files, listed := readTree(dir, x.Commit)
	if listed {
		text, err := os.ReadFile(filepath.Join(dir, "trees", x.Commit+".json"))
		if err != nil {
			return x, err
		}
		x.Tree = text
	}
	own, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return x, err
	}
	for _, name := range chosen(snapshot, ref, files, listed).Files {
		f, err := describe(ctx, own, filepath.Join(snapshot, filepath.FromSlash(name)))
		if err != nil {
			return x, err
		}
		f.Path = name
		x.Files = append(x.Files, f)
	}
	return x, x.check(ref)
}

// describe returns the blob of a file of a snapshot, whose name has to be a digest.
func describe(ctx context.Context, own, name string) (indexed, error) {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return indexed{}, err
	}
	if !strings.HasPrefix(real, own+"/") {
		return indexed{}, fmt.Errorf("%s leads out of its directory, to %s", name, real)
	}
	from, info, err := regular.Open(real)
	if err != nil {
		return indexed{}, err
	}
	defer from.Close()
	f := indexed{Blob: filepath.Base(real), Size: info.Size()}
	if filepath.Dir(real) == filepath.Join(own, "blobs") && hexDigits(f.Blob, 64) {
		f.SHA256 = f.Blob
		return f, nil
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, stopping{ctx, from}, make([]byte, 256<<10)); err != nil {
		return f, fmt.Errorf("%s: %w", real, err)
	}
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if !hexDigits(f.Blob, 40) { // a copy, of programs on file systems without links
		f.Blob = f.SHA256
	}
	return f, nil
}

// isCommit reports whether a text can be the name of a snapshot: letters, digits and _.-, and no
// dot or dash at its beginning.
func isCommit(s string) bool {
	return plain(s) && s[0] != '.' && s[0] != '-' && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_.-", c)
	})
}

// readIndex reads the index of an archive that someone else made, and returns what it is of.
func readIndex(text []byte) (x index, ref modelref.Ref, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return index{}, ref, fmt.Errorf("the index of the archive cannot be read: %w", err)
	}
	if ref, err = modelref.Parse(x.Model); err == nil && !ref.Remote() {
		err = fmt.Errorf("%s is a file of this host", ref)
	}
	if err == nil {
		err = x.check(ref)
	}
	if err != nil {
		return index{}, modelref.Ref{}, fmt.Errorf("the index of the archive: %w", err)
	}
	return x, ref, nil
}

// check returns what is wrong with an index.
func (x index) check(ref modelref.Ref) error {
	switch {
	case x.Version != indexVersion:
		return fmt.Errorf("it is of version %d; this program reads %d", x.Version, indexVersion)
	case !isCommit(x.Commit) || ref.Commit() != "" && ref.Commit() != x.Commit:
		return fmt.Errorf("%q is not the commit of %s", x.Commit, ref)
	case len(x.Files) == 0 || len(x.Files) > filesMost:
		return fmt.Errorf("it has %d files, not 1 to %d", len(x.Files), filesMost)
	}
	paths, sizes := make(map[string]bool), make(map[string]indexed)
	for _, f := range x.Files {
		was, twice := sizes[f.Blob]
		switch {
		case !modelref.PlainPath(f.Path) || paths[f.Path]:
			return fmt.Errorf("%q cannot be a file of a model", f.Path)
		case f.Size < 0 || f.Size > sizeMost:
			return fmt.Errorf("%q has %d bytes", f.Path, f.Size)
		case !hexDigits(f.SHA256, 64) || f.Blob != f.SHA256 && !hexDigits(f.Blob, 40):
			return fmt.Errorf("%q has no digest", f.Path)
		case twice && (was.Size != f.Size || was.SHA256 != f.SHA256):
			return fmt.Errorf("%q is said to be two files", f.Blob)
		}
		paths[f.Path], sizes[f.Blob] = true, f
	}
	return x.checkTree()
}

// checkTree returns what is wrong with the list of the commit.
func (x index) checkTree() error {
	if x.Tree == nil {
		return nil
	}
	var tree struct {
		Files map[string]listedFile `json:"files"`
	}
	if err := json.Unmarshal(x.Tree, &tree); err != nil {
		return fmt.Errorf("its list of files cannot be read: %w", err)
	}
	for name, f := range tree.Files {
		if !modelref.PlainPath(name) || f.Size < 0 {
			return fmt.Errorf("its list names %q", name)
		}
	}
	for _, f := range x.Files {
		if is, ok := tree.Files[f.Path]; !ok || is.Size != f.Size {
			return errors.New("its list is of other files: " + path.Base(f.Path))
		}
	}
	return nil
}
