package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// directory makes a folder, or keeps the one that is there.
func (l *layer) directory(at int, base string) error {
	err := unix.Mkdirat(at, base, 0o755)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := unix.Unlinkat(at, base, 0); err != nil {
		return err
	}
	return unix.Mkdirat(at, base, 0o755)
}

// mode is that of a file in the image: readable for everyone, executable for everyone if it is for
// anyone, and writable for the owner alone. Set-user-id, set-group-id and sticky bits are dropped.
func mode(h *tar.Header) uint32 {
	if h.FileInfo().Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// file writes a regular file in the place of what is there.
func (l *layer) file(at int, base string, h *tar.Header, content io.Reader) error {
	if h.Size < 0 || h.Size > l.limits.Bytes-l.Bytes {
		return &Refused{h.Name, fmt.Sprintf("is too large: the image may have %d bytes", l.limits.Bytes)}
	}
	if err := remove(at, base); err != nil {
		return err
	}
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := l.copy(f, h, content); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode(h)); err != nil {
		return err
	}
	// Python compares the time of a source with the one that it noted when it was compiled.
	if t := h.ModTime.Unix(); t > 0 && t < 1<<33 {
		ts := []unix.Timespec{{Sec: t}, {Sec: t}}
		if err := unix.UtimesNanoAt(at, base, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return f.Close()
}

// copy writes the content of a file, as long as it is in proportion to what was read of the layer.
func (l *layer) copy(to io.Writer, h *tar.Header, content io.Reader) error {
	const step = 4 << 20
	for left := h.Size; left > 0; {
		n, err := io.CopyN(to, content, min(left, step))
		l.Bytes += n
		l.bytes += n
		left -= n
		if err != nil {
			var write *fs.PathError
			if errors.As(err, &write) {
				return write.Err
			}
			return l.broken(err)
		}
		if over := l.bytes - l.limits.Slack; over > 0 && over/l.limits.Ratio > l.packed.n {
			return &Refused{h.Name, fmt.Sprintf("is in a layer of %d bytes that unpacks to more than %d", l.packed.n,
				l.bytes)}
		}
	}
	return nil
}

// link makes a hard link to a file that is there.
func (l *layer) link(at int, base, name string, h *tar.Header) error {
	target, why := clean(h.Linkname)
	switch {
	case why != "" || target == "":
		return &Refused{h.Name, fmt.Sprintf("is a link to %.200q, which leads out of the image", h.Linkname)}
	case target == name:
		return nil
	}
	dir, file := path.Split(target)
	from, err := l.existing(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return missing(h, err)
	}
	defer unix.Close(from)
	var st unix.Stat_t
	if err := unix.Fstatat(from, file, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return missing(h, err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFLNK {
		return &Refused{h.Name, fmt.Sprintf("is a link to %.200q, which is no file", h.Linkname)}
	}
	var was unix.Stat_t
	if unix.Fstatat(at, base, &was, unix.AT_SYMLINK_NOFOLLOW) == nil && was.Ino == st.Ino && was.Dev == st.Dev {
		return nil
	}
	if err := remove(at, base); err != nil {
		return err
	}
	if err := unix.Linkat(from, file, at, base, 0); err != nil {
		return missing(h, err) // what was removed may have held the target
	}
	return nil
}

// missing is a hard link to something that cannot be found.
func missing(h *tar.Header, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return &Refused{h.Name, fmt.Sprintf("is a link to %.200q, which no layer has", h.Linkname)}
	}
	return err
}

// symlink makes a symbolic link. It may say what it likes: whatever follows it has the image as its
// root.
func (l *layer) symlink(at int, base string, h *tar.Header) error {
	if h.Linkname == "" || len(h.Linkname) > mostPath || strings.ContainsRune(h.Linkname, 0) {
		return &Refused{h.Name, "is a link that leads nowhere"}
	}
	if err := remove(at, base); err != nil {
		return err
	}
	return unix.Symlinkat(h.Linkname, at, base)
}
