// Package unpack applies the layers of a container image to a directory (OCI image specification,
// "Image Layer Filesystem Changeset").
//
// It owns what a layer may do: nothing outside of the directory, no device, no set-user-id bit, no
// owner, and a bounded size. A layer is not trusted. It must not know where layers come from,
// or what an image is for.
package unpack

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits bound what the layers of an image unpack to, together. Zero is the default.
type Limits struct {
	Bytes   int64 // of files
	Entries int   // of layers
	// Ratio is how many times more bytes a layer may unpack to than it has, beyond Slack.
	Ratio, Slack int64
}

// Bounds. Images with CUDA and PyTorch have up to 300,000 entries and 30 GB, and unpack to three
// times the size of their layers.
const (
	mostBytes    = 128 << 30
	mostEntries  = 1_000_000
	mostRatio    = 200
	mostSlack    = 256 << 20 // bytes
	mostPath     = 4095      // bytes of a path, and of what a link leads to
	mostName     = 255       // bytes of one name in it
	mostDepth    = 128       // names in it
	mostTrailing = 64 << 20  // bytes behind the end of the archive
)

// Refused is a layer that is not unpacked: what in it, and why.
type Refused struct {
	Entry, Why string
}

func (e *Refused) Error() string {
	if e.Entry == "" {
		return e.Why
	}
	return fmt.Sprintf("%.200q %s", e.Entry, e.Why)
}

// Root is a directory into which layers are unpacked, the lowest first. Its files are readable for
// everyone, and belong to the user of the process.
type Root struct {
	fd     int
	limits Limits
	seed   maphash.Seed

	// Bytes and Entries are what was unpacked so far, Skipped the device nodes below /dev, pipes
	// and sockets that were left out.
	Bytes   int64
	Entries int
	Skipped int
}

// Open opens a directory, which should be empty.
func Open(dir string, l Limits) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	if l.Bytes == 0 {
		l.Bytes = mostBytes
	}
	if l.Entries == 0 {
		l.Entries = mostEntries
	}
	if l.Ratio == 0 {
		l.Ratio = mostRatio
	}
	if l.Slack == 0 {
		l.Slack = mostSlack
	}
	return &Root{fd: fd, limits: l, seed: maphash.MakeSeed()}, nil
}

// Close closes the directory.
func (r *Root) Close() { unix.Close(r.fd) }

// layer is one layer while it is unpacked.
type layer struct {
	*Root
	packed *counter
	bytes  int64               // unpacked of it
	added  map[uint64]struct{} // hashes of the paths that it has added
}

// Layer applies one layer: a tar archive, plain or compressed with gzip or zstd. It returns the
// digest of the archive, which an image's configuration has among its diff_ids. The error is a
// *Refused, that of a file system, of the reader, or of the context.
func (r *Root) Layer(ctx context.Context, from io.Reader) (digest string, err error) {
	packed := &counter{ctx: ctx, from: from}
	plain, err := decompress(packed)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	sum := sha256.New()
	l := &layer{Root: r, packed: packed, added: make(map[uint64]struct{})}
	all := io.TeeReader(plain, sum)
	if err := l.apply(tar.NewReader(all)); err != nil {
		return "", err
	}
	n, err := io.CopyN(io.Discard, all, mostTrailing)
	switch {
	case err == nil && n == mostTrailing:
		return "", &Refused{"", fmt.Sprintf("the layer has more than %d bytes behind its end", mostTrailing)}
	case !errors.Is(err, io.EOF):
		return "", l.broken(err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// broken converts an error of the archive's reader.
func (l *layer) broken(err error) error {
	if l.packed.err != nil {
		return l.packed.err
	}
	return &Refused{"", fmt.Sprintf("the layer is no archive: %v", err)}
}

func (l *layer) apply(archive *tar.Reader) error {
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return l.broken(err)
		}
		if l.Entries++; l.Entries > l.limits.Entries {
			return &Refused{"", fmt.Sprintf("the image has more than %d entries", l.limits.Entries)}
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, why := clean(h.Name)
		if why != "" {
			return &Refused{h.Name, why}
		}
		if name == "" {
			continue // the root itself
		}
		if err := l.entry(name, h, archive); err != nil {
			return named(h.Name, err)
		}
	}
}

// named adds the name of an entry to an error of the file system.
func named(entry string, err error) error {
	var refused *Refused
	var no unix.Errno
	if errors.As(err, &refused) || !errors.As(err, &no) {
		return err
	}
	return fmt.Errorf("unpack %.200q: %w", entry, err)
}

// clean returns an entry's path relative to the root, "" for the root itself, or why there is none.
func clean(name string) (p, why string) {
	if len(name) > mostPath {
		return "", "has a path that is too long"
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "..":
			return "", "leads out of the image"
		case len(part) > mostName:
			return "", "has a name that is too long"
		case part != "" && part != ".":
			depth++
		}
	}
	if depth > mostDepth {
		return "", "is too deep"
	}
	if strings.ContainsRune(name, 0) {
		return "", "has a NUL character in its name"
	}
	return path.Clean("/" + name)[1:], ""
}

// Whiteouts, as AUFS began them.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	reserved = ".wh..wh." // AUFS's own files
)

func (l *layer) entry(name string, h *tar.Header, content io.Reader) error {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if strings.HasPrefix(base, whiteout) {
		return l.whiteout(dir, base)
	}
	if base == "" || strings.HasPrefix(path.Base(dir), whiteout) {
		return &Refused{h.Name, "is below a whiteout"}
	}
	at, err := l.folder(dir, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	for p := name; p != "."; p = path.Dir(p) {
		l.added[l.key(p)] = struct{}{}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return l.directory(at, base)
	case tar.TypeReg, tar.TypeGNUSparse:
		return l.file(at, base, h, content)
	case tar.TypeLink:
		return l.link(at, base, name, h)
	case tar.TypeSymlink:
		return l.symlink(at, base, h)
	case tar.TypeFifo:
		l.Skipped++
		return nil
	case tar.TypeChar, tar.TypeBlock:
		if name == "dev" || !strings.HasPrefix(name, "dev/") {
			return &Refused{h.Name, "is a device"}
		}
		l.Skipped++ // old base images have some, and an engine has a /dev of its own
		return nil
	}
	return &Refused{h.Name, fmt.Sprintf("is of the unknown kind %q", h.Typeflag)}
}

func (r *Root) key(p string) uint64 { return maphash.String(r.seed, p) }

// whiteout removes what lower layers have.
func (l *layer) whiteout(dir, base string) error {
	name := strings.TrimPrefix(base, whiteout)
	if name == "" || name == "." || name == ".." {
		return &Refused{path.Join(dir, base), "removes no file"}
	}
	at, err := l.existing(dir)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // nothing to remove
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if base == opaque {
		return l.clear(at, dir)
	}
	if strings.HasPrefix(base, reserved) {
		return nil
	}
	return remove(at, name)
}
