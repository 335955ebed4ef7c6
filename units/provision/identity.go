package provision

import (
	"fmt"
	"io/fs"
	"syscall"
)

// identity names one version of a file: another inode, size or time is another version. The change time is part of it, since
// a copy can restore the modification time and cannot restore that.
func identity(path string, info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprintf("%s|%d|%d", path, info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprintf("%s|%d|%d|%d|%d|%d", path, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}
