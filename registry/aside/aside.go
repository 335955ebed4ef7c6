// Package aside renames an unusable state file, so that a new one can be created and the old one
// can be examined.
//
// It owns the new name of such a file, and which errors are of the disk and not of the file. It
// must not know the file's content.
package aside

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// stamp is the time in the name, in UTC.
const stamp = "20060102T150405.000Z"

// Move renames what is at path, a file or a directory, to path.damaged-TIME and returns that name.
func Move(path string, now time.Time) (to string, err error) {
	to = path + ".damaged-" + now.UTC().Format(stamp)
	if _, err := os.Lstat(to); err == nil {
		return "", fmt.Errorf("move %s aside: %s exists", path, to)
	}
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("move aside: %w", err)
	}
	return to, nil
}

// refusals are errors of a disk or host on which a new file would fail too: the opened file is not
// damaged.
var refusals = []error{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOTDIR,
}

// Refused reports whether err is of the disk and not damage of a file.
func Refused(err error) bool {
	return slices.ContainsFunc(refusals, func(e error) bool { return errors.Is(err, e) })
}
