package strict

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// MaxFileBytes bounds a configuration file. A pool file has about one kilobyte.
const MaxFileBytes = 1 << 20

// ReadFile returns the content of a configuration file, or the one Problem that keeps it from being
// read. It follows symbolic links, never blocks on a pipe or a device, and never holds more than
// MaxFileBytes. A missing file is a Problem too; IsMissing checks for it before.
func ReadFile(path string) ([]byte, *Problem) {
	// The file's type is checked before it is opened: opening a device may have an effect.
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if p := wrongKind(path, info); p != nil {
		return nil, p
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	// Check again on the open file, which no other process can replace.
	if info, err = f.Stat(); err != nil {
		return nil, unreadable(path, err)
	}
	if p := wrongKind(path, info); p != nil {
		return nil, p
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(data) > MaxFileBytes {
		return nil, tooLarge(path, max(info.Size(), int64(len(data))))
	}
	return data, nil
}

// IsMissing reports whether path does not exist. A dangling symbolic link exists.
func IsMissing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func wrongKind(path string, info fs.FileInfo) *Problem {
	what := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		if info.Size() > MaxFileBytes {
			return tooLarge(path, info.Size())
		}
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	default:
		what = "a device"
	}
	return &Problem{File: path, Message: "this is " + what, Allowed: "a regular file",
		Hint: fmt.Sprintf("Move %s away, or give it a name that does not end in .toml.", path)}
}

func tooLarge(path string, size int64) *Problem {
	return &Problem{File: path, Message: fmt.Sprintf("the file has %s", FormatSize(uint64(size))),
		Allowed: "at most " + FormatSize(MaxFileBytes),
		Hint:    "This is probably not a configuration file; move it out of the directory."}
}

// unreadable explains the errors of open(2), stat(2) and read(2) that an administrator can fix.
func unreadable(path string, err error) *Problem {
	p := &Problem{File: path, Message: "the file cannot be read: " + Cause(err)}
	switch {
	case errors.Is(err, unix.ELOOP):
		p.Message = "the file cannot be read: its symbolic links form a loop, or there are too many"
		p.Hint = fmt.Sprintf("Follow them with namei %s, and fix or remove the link.", path)
	case errors.Is(err, fs.ErrPermission):
		p.Message = "the file cannot be read: permission denied"
		p.Hint = fmt.Sprintf("pool-managerd is root without capabilities: run chown root %[1]s && chmod u+r %[1]s, "+
			"and check the directories above it.", path)
	case errors.Is(err, fs.ErrNotExist):
		p.Message = "the file does not exist"
		if info, lerr := os.Lstat(path); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			p.Message = "the file is a dangling symbolic link"
			if target, rerr := os.Readlink(path); rerr == nil {
				p.Message = fmt.Sprintf("the file is a symbolic link to %q, which does not exist", target)
			}
			p.Hint = "Restore what it points to, or remove the link."
		}
	case errors.Is(err, unix.ENAMETOOLONG):
		p.Hint = "Give the file, or what its symbolic link points to, a shorter name."
	}
	return p
}

// Cause returns the error of a file operation without the operation and the path, which the Problem
// has.
func Cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
