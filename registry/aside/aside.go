// Package aside moves a state file that cannot be used out of the way, so that a new one can be
// made and the old one can still be examined.
//
// It owns the name under which such a file is kept, and which errors are the disk's and not the
// file's. It must not know what is in the file.
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

// refusals are errors of a disk or a host that takes no new file either: there is nothing wrong
// with the file that was opened.
var refusals = []error{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOTDIR,
}

// Refused reports whether err is the disk's refusal to be written, not damage of a file.
func Refused(err error) bool {
	return slices.ContainsFunc(refusals, func(e error) bool { return errors.Is(err, e) })
}
