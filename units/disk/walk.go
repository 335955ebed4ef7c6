package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of one engine's directory, which may be made to be counted for ever.
const (
	MostFiles = 200_000
	MostDepth = 64 // directories within one another
)

const batch = 1024 // names that are read at once

// Walk counts each directory directly below root, and calls count with its name. Directories of an
// engine are its own to change while they are counted: no link is followed, no other file system
// entered, and nothing opened but directories.
func Walk(ctx context.Context, root string, count func(name string, u Usage) error) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was no engine yet
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		u, err := countTree(ctx, filepath.Join(root, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the engine is gone
		}
		if err != nil {
			return err
		}
		if err := count(e.Name(), u); err != nil {
			return err
		}
	}
	return nil
}

// tree is one directory that is being counted.
type tree struct {
	used   Usage
	device uint64
	seen   map[[2]uint64]bool // files with several names, by device and inode
}

func countTree(ctx context.Context, path string) (Usage, error) {
	fd, err := unix.Open(path, openFlags, 0)
	if err != nil {
		return Usage{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Usage{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	t := tree{device: st.Dev, seen: make(map[[2]uint64]bool)}
	t.add(&st)
	err = t.list(ctx, dir, 0)
	return t.used, err
}

const openFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// list counts what a directory holds. What cannot be read any longer is not there any longer.
func (t *tree) list(ctx context.Context, dir *os.File, depth int) error {
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := t.entry(ctx, dir, name, depth); err != nil {
				return err
			}
			if t.used.Files > MostFiles {
				t.used.More = true
				return nil
			}
		}
		if err != nil {
			return ctx.Err()
		}
	}
}

func (t *tree) entry(ctx context.Context, dir *os.File, name string, depth int) error {
	var st unix.Stat_t
	if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return ctx.Err()
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	// An overlay shows files with the device of the file system below it.
	if isDir && st.Dev != t.device {
		return nil
	}
	t.add(&st)
	switch {
	case !isDir:
		return nil
	case depth >= MostDepth:
		t.used.More = true
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), name, openFlags, 0)
	if err != nil {
		return ctx.Err()
	}
	sub := os.NewFile(uintptr(fd), name)
	defer sub.Close()
	return t.list(ctx, sub, depth+1)
}

// add counts a file once, whichever names it has.
func (t *tree) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := [2]uint64{st.Dev, st.Ino}
		if t.seen[id] {
			return
		}
		t.seen[id] = true
	}
	const block = 512 // of st_blocks, see stat(2)
	t.used = t.used.add(Usage{Bytes: uint64(st.Blocks) * block, Files: 1})
}

// Print writes what Parse reads.
func Print(w io.Writer, name string, u Usage) error {
	_, err := fmt.Fprintf(w, "%s %d %d %t\n", name, u.Bytes, u.Files, u.More)
	return err
}

// Parse reads the lines of Print and adds up those of one name. The last line of a whole output is
// Done: without it an engine might count as one that holds nothing.
func Parse(text string) (map[string]Usage, error) {
	text, whole := strings.CutSuffix(text, Done+"\n")
	if !whole {
		return nil, fmt.Errorf("the output is not whole: %q", text[:min(len(text), 200)])
	}
	of := make(map[string]Usage)
	for line := range strings.Lines(text) {
		var name string
		var u Usage
		if n, err := fmt.Sscanf(line, "%s %d %d %t\n", &name, &u.Bytes, &u.Files, &u.More); n != 4 || err != nil {
			return nil, fmt.Errorf("line %q: want a name and its usage", line)
		}
		of[name] = of[name].add(u)
	}
	return of, nil
}

// Done is the last line of a whole output.
const Done = "done"
