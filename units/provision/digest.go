package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// maxHashes bounds the files that are read at once: two keep a fast disk busy, and more only fight for a slow one.
const maxHashes = 2

// hashChunk is how much is read between two looks at the context, in bytes.
const hashChunk = 1 << 20

// hashing lets each file be hashed by one goroutine, and few files at once.
type hashing struct {
	once  sync.Once
	slots chan struct{}
	mu    sync.Mutex
	files map[string]chan struct{} // held while a file is hashed
}

// enter waits for the file's turn; leave gives it back.
func (h *hashing) enter(ctx context.Context, path string) (leave func(), err error) {
	h.once.Do(func() { h.slots, h.files = make(chan struct{}, maxHashes), make(map[string]chan struct{}) })
	h.mu.Lock()
	turn := h.files[path]
	if turn == nil {
		turn = make(chan struct{}, 1)
		h.files[path] = turn
	}
	h.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		<-turn
		return nil, ctx.Err()
	}
	return func() { <-h.slots; <-turn }, nil
}

// verify compares the digest where one is given, and says once for each file where none is.
func (s *Stager) verify(ctx context.Context, p pool.Pool, files []file, staged *pool.Staged) error {
	if p.ModelDigest == "" {
		id := identity(staged.Path, files[0].info)
		if _, told := s.advised.LoadOrStore(id, true); !told {
			s.Log.Info("the model is used unverified: the pool names no model_digest", "pool_id", p.ID, "engine", p.Engine, "model_id", string(p.Model))
			s.count(true, "advisory", p.Engine)
		}
		return nil
	}
	digest, err := s.digest(ctx, staged.Path, files)
	if err != nil {
		return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s cannot be read to its end: %v", staged.Path, err), "Check the disk, and that others may read the file.")
	}
	if digest != p.ModelDigest {
		s.count(false, "mismatch", p.Engine)
		return registry.Fail(registry.CodeDigestMismatch, fmt.Sprintf("model %s is %s, and the pool asks for %s", staged.Path, digest, p.ModelDigest),
			"Fetch the file again, or correct model_digest; the digest of a file is what sha256sum prints.")
	}
	s.count(true, "match", p.Engine)
	staged.Digest, staged.Verified = digest, true
	return nil
}

func (s *Stager) count(pass bool, reason, engine string) {
	if s.Verified != nil {
		s.Verified(pass, reason, engine)
	}
}

// digest is the SHA-256 of a single file. Of several, it is that of the list which sha256sum prints for them, with paths relative to
// the model's folder, sorted by name: a person can compute it with the same tool.
func (s *Stager) digest(ctx context.Context, path string, files []file) (string, error) {
	if len(files) == 1 && files[0].path == path {
		sum, err := s.fileDigest(ctx, files[0])
		return "sha256:" + sum, err
	}
	base := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		base = filepath.Dir(path)
	}
	lines := make([]string, 0, len(files))
	for _, f := range files {
		sum, err := s.fileDigest(ctx, f)
		if err != nil {
			return "", err
		}
		name, err := filepath.Rel(base, f.path)
		if err != nil {
			return "", err
		}
		lines = append(lines, sum+"  "+name+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// fileDigest returns the remembered digest of this version of a file, or reads it.
func (s *Stager) fileDigest(ctx context.Context, f file) (string, error) {
	leave, err := s.hashes.enter(ctx, f.path)
	if err != nil {
		return "", err
	}
	defer leave()
	key := identity(f.path, f.info)
	if sum, ok := s.Store.get(bucketDigests, key); ok {
		return sum, nil
	}
	s.Log.Info("verifying the model's digest", "model_file", f.path, "size_bytes", f.info.Size())
	sum, err := hashFile(ctx, f.path)
	if err != nil {
		return "", err
	}
	// A file that was written to meanwhile has no digest yet.
	if now, err := os.Stat(f.path); err != nil || identity(f.path, now) != key {
		return "", fmt.Errorf("%s changed while it was read", f.path)
	}
	if err := s.Store.put(bucketDigests, key, sum); err != nil {
		s.Log.Warn("the digest could not be remembered; it will be computed again", "model_file", f.path, "err", err)
	}
	return sum, nil
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var h hash.Hash = sha256.New()
	for ctx.Err() == nil {
		_, err := io.CopyN(h, f, hashChunk)
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}
