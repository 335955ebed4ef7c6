package machine

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Kind is what a machine is made of.
type Kind string

// The two backends.
const (
	Container Kind = "container" // systemd-nspawn: native speed; limits need controllers that the host gives it
	VM        Kind = "vm"        // qemu: real controllers, OOM killer and BPF; slow without KVM
)

// Config describes the machine to boot. The zero value is a container with Debian 13.
type Config struct {
	Release  Release  // Trixie when empty
	Backend  Kind     // Container when empty
	Packages []string // Debian packages beyond the usual ones; each list is a root file system of its own, built once

	// Files are in place before PID 1 starts. Missing directories are made with mode 0755.
	Files []File

	// Binds are directories of the host that a container shows read-only: what is too large to be
	// copied.
	Binds []Bind

	// Calls are system calls that a container may make beyond those that systemd-nspawn permits,
	// such as bpf. A VM makes any.
	Calls []string

	MemoryMiB int // main memory of a VM; 1536 when 0. A container has the host's.
	CPUs      int // processors of a VM; 2 when 0. A container has the host's.

	// Log receives lines of progress, such as the build of a root file system; nil is silence. It
	// may be called from several goroutines.
	Log func(string)
}

// File is a file to put into a machine, owned by root. Its content is Data, or the host's file or
// directory tree at Host.
type File struct {
	Guest string      // absolute path in the machine
	Data  []byte      // used when Host is empty
	Host  string      // path on the host; a directory is copied whole
	Mode  fs.FileMode // permissions; when 0, those of Host, or 0644 for Data
}

// Bind is a directory of the host in a machine, read-only.
type Bind struct {
	Guest string // absolute path in the machine
	Host  string
}

// filled returns the configuration with its defaults, or what is wrong with it.
func (c Config) filled() (Config, error) {
	if c.Release == "" {
		c.Release = Trixie
	}
	if _, err := ParseRelease(string(c.Release)); err != nil {
		return c, err
	}
	if c.Backend == "" {
		c.Backend = Container
	}
	if c.Backend != Container && c.Backend != VM {
		return c, fmt.Errorf("unknown backend %q; known are %s and %s", c.Backend, Container, VM)
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 1536
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	for _, f := range c.Files {
		if !path.IsAbs(f.Guest) {
			return c, fmt.Errorf("file %q: the path in the machine is not absolute", f.Guest)
		}
	}
	for _, b := range c.Binds {
		if c.Backend == VM {
			return c, fmt.Errorf("bind %q: only a container shows a directory of the host", b.Guest)
		}
		if !path.IsAbs(b.Guest) || !path.IsAbs(b.Host) || strings.ContainsAny(b.Guest+b.Host, ": \\") {
			return c, fmt.Errorf("bind %q to %q: want two absolute paths without colon, space and backslash", b.Host,
				b.Guest)
		}
	}
	return c, nil
}

// writeTar writes the files as a tar archive with paths relative to the root directory.
func writeTar(w io.Writer, files []File) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := addFile(t, f); err != nil {
			return fmt.Errorf("file %s: %w", f.Guest, err)
		}
	}
	return t.Close()
}

// addFile adds one entry of a Config, which may be a tree.
func addFile(t *tar.Writer, f File) error {
	name := strings.TrimPrefix(path.Clean(f.Guest), "/")
	if f.Host == "" {
		if f.Mode == 0 {
			f.Mode = 0o644
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: tarMode(f.Mode), Size: int64(len(f.Data))}); err != nil {
			return err
		}
		_, err := t.Write(f.Data)
		return err
	}
	return filepath.WalkDir(f.Host, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.Host, p)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0)
		if rel == "." {
			mode = f.Mode
		}
		return addPath(t, p, path.Join(name, filepath.ToSlash(rel)), mode)
	})
}

// addPath adds one file, directory or symbolic link of the host under the given name; mode 0 keeps
// its own.
func addPath(t *tar.Writer, host, name string, mode fs.FileMode) error {
	info, err := os.Lstat(host)
	if err != nil {
		return err
	}
	var link string
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(host); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	// Everything belongs to the machine's root, not to the user who built it on the host.
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if mode != 0 {
		h.Mode = tarMode(mode)
	}
	if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	src, err := os.Open(host)
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = io.Copy(t, src)
	return err
}

// tarMode is the mode as tar and chmod spell it, with the setuid, setgid and sticky bits that
// fs.FileMode keeps elsewhere.
func tarMode(m fs.FileMode) int64 {
	bits := int64(m.Perm())
	for flag, bit := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}
