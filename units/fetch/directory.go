package fetch

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// handedOver bounds the directories of an artefact that are handed to the user of fetches.
const handedOver = 20000

// MakeDirectory makes the directory of an artefact and hands it to a user, as root: the cache
// itself belongs to root. One that root made is handed over with the directories in it; one of
// another user is that user's. No link is followed below the cache. The error is a *Failure.
func MakeDirectory(cache, name, owner string) error {
	u, err := user.Lookup(owner)
	if err != nil {
		return failedCache(
			fmt.Errorf("user %s: %w", owner, err),
			"Install the package again: systemd-sysusers makes the user.",
		)
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	if err := errors.Join(errU, errG); err != nil {
		return failedCache(err, "")
	}
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return failedCache(fmt.Errorf("%q is not one plain name", name), "")
	}
	const hint = "Check the disk of cache_dir, and whether it is mounted read-only."
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return failedCache(err, hint)
	}
	top, err := unix.Open(cache, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failedCache(&os.PathError{Op: "open", Path: cache, Err: err}, hint)
	}
	defer unix.Close(top)
	path := filepath.Join(cache, name)
	if err := unix.Mkdirat(top, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return failedCache(&os.PathError{Op: "mkdir", Path: path, Err: err}, hint)
	}
	left := handedOver
	return handOver(top, name, path, uid, gid, &left)
}

// handOver gives a directory of root, and those in it, to a user.
func handOver(above int, name, path string, uid, gid int, left *int) error {
	fd, err := unix.Openat(above, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failedCache(
			&os.PathError{Op: "open", Path: path, Err: err},
			"Remove what is there, or choose another cache_dir.",
		)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return failedCache(err, "")
	}
	switch int(st.Uid) {
	case uid:
		return nil
	case 0:
	default:
		return failedCache(fmt.Errorf("%s belongs to the user %d", path, st.Uid),
			fmt.Sprintf("Hand it over, chown -R %d:%d '%s', or complete it as that user.", uid, gid, path))
	}
	if *left--; *left < 0 {
		return failedCache(fmt.Errorf("%s has too many directories", path), "")
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return failedCache(err, "")
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := handOver(fd, e.Name(), filepath.Join(path, e.Name()), uid, gid, left); err != nil {
				return err
			}
		}
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return failedCache(&os.PathError{Op: "chown", Path: path, Err: err}, "The unit's first step runs as root.")
	}
	return nil
}

func failedCache(err error, hint string) error {
	return &Failure{
		Reason:  wire.CacheFailed,
		Message: "could not make the model's directory in the cache",
		Err:     err,
		Hint:    hint,
	}
}
