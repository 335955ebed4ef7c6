package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CacheEnv names the environment variable that moves the cache directory.
const CacheEnv = "POOL_MACHINE_CACHE"

// CacheDir returns the directory of everything that is built once: $POOL_MACHINE_CACHE, else
// pool-managerd/machines in the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w; set %s", err, CacheEnv)
	}
	return filepath.Join(base, "pool-managerd", "machines"), nil
}

// contentKey hashes the parts into twelve hex digits; no two different lists of parts join
// alike.
func contentKey(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// cached returns the path of the named entry in the folder of the cache, and has make build it
// first when it is not there. make writes to the path it is given, which only takes its name in the
// cache when make has succeeded: an interrupted build is never taken for a whole one. Builders in
// other processes wait for each other. A program that build runs is to inherit lock, so that the
// entry stays locked while it runs on without its parent.
func cached(ctx context.Context, folder, name string, build func(path string, lock *os.File) error) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, folder)
	final := filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if _, err := os.Lstat(final); err == nil {
		return final, nil
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "."+name+".lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Lstat(final); err == nil {
		return final, nil // another process built it while this one waited
	}
	partial := filepath.Join(dir, ".partial-"+name)
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("left over from an interrupted build: %w", err)
	}
	if err := build(partial, lock); err != nil {
		return "", errors.Join(err, os.RemoveAll(partial))
	}
	return final, os.Rename(partial, final)
}

// lockFile takes an exclusive lock on the file at path, waiting for other processes and goroutines
// until ctx ends. Closing the file gives the lock back, and so does the death of every process that
// holds it.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	// flock cannot be interrupted through a context, so it is asked for again and again.
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another process that builds %s: %w", filepath.Base(path), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
