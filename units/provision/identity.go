package provision

import (
	"context"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// identity names one version of a file: another inode, size or time is another version. The change
// time is part of it, since a copy can restore the modification time and cannot restore that.
func identity(path string, info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprintf("%s|%d|%d", path, info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprintf("%s|%d|%d|%d|%d|%d", path, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}

// settled waits until a later change of the file must have another change time than the one in
// info.
func settled(ctx context.Context, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	age := time.Since(time.Unix(st.Ctim.Unix()))
	if age < 0 || age >= settleTime { // a change time in the future proves nothing
		return nil
	}
	select {
	case <-time.After(settleTime - age):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
