package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
)

// Root is where systemd mounts the cgroup v2 tree (file-hierarchy of systemd.resource-control(5)).
const Root = "/sys/fs/cgroup"

// ErrNoCgroup is returned for a cgroup that does not exist: the service does not run.
var ErrNoCgroup = errors.New("no such cgroup")

// Usage is what one cgroup uses, including its children. A nil field could not be read, which is
// not zero; Absent has the reason.
type Usage struct {
	ID       uint64 // of the cgroup: one that was removed and made again under its name has another
	Memory   *Memory
	Pressure *Pressure // of memory
	Absent   []Absence
}

// Absence is a file that could not be read without that being an error.
type Absence struct {
	File string
	Why  string
}

// ParseError is a cgroup file whose contents are not what the kernel documents.
type ParseError struct {
	File string
	Text string // the offending line or word, at most 80 bytes
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("cgroup file %s: cannot read %q", e.File, e.Text)
}

func parseError(file, text string) error {
	return &ParseError{File: file, Text: text[:min(len(text), 80)]}
}

// ReadUsage reads one cgroup below root; controlGroup is PID 1's ControlGroup property, such as
// "/pool.slice/pool-engines.slice/pool-engine@llama3.r0.service". It returns ErrNoCgroup when the
// cgroup is gone, and a *ParseError for contents it does not understand.
func ReadUsage(root, controlGroup string) (Usage, error) {
	dir, err := open(root, controlGroup)
	if err != nil {
		return Usage{}, err
	}
	defer dir.Close()
	u := Usage{ID: identity(dir)}
	for _, step := range []func(*reader, *Usage) error{readMemory, readPressure} {
		r := &reader{dir: dir}
		if err := step(r, &u); err != nil {
			return Usage{}, fmt.Errorf("cgroup %s: %w", controlGroup, err)
		}
		u.Absent = append(u.Absent, r.absent...)
	}
	return u, nil
}

// open opens the cgroup's directory so that no name can lead out of the tree.
func open(root, controlGroup string) (*os.Root, error) {
	tree, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open cgroup tree: %w", err)
	}
	defer tree.Close()
	inside := strings.TrimPrefix(path.Clean("/"+controlGroup), "/")
	if inside == "" {
		inside = "."
	}
	dir, err := tree.OpenRoot(inside)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s", ErrNoCgroup, controlGroup)
	case err != nil:
		return nil, fmt.Errorf("open cgroup %s: %w", controlGroup, err)
	}
	return dir, nil
}

// reader reads the files of one cgroup and records those that do not exist.
type reader struct {
	dir    *os.Root
	absent []Absence
}

// file returns a file's text; ok is false where it is absent for one of the reasons the kernel
// documents, which why names.
func (r *reader) file(name, why string) (text string, ok bool, err error) {
	data, err := r.dir.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.absent = append(r.absent, Absence{File: name, Why: why})
		return "", false, nil
	case errors.Is(err, syscall.EOPNOTSUPP):
		r.absent = append(r.absent, Absence{File: name, Why: "the kernel was booted with it turned off (psi=0)"})
		return "", false, nil
	case errors.Is(err, syscall.ENODEV):
		// kernfs: the cgroup went away between open and read.
		return "", false, ErrNoCgroup
	case err != nil:
		return "", false, err
	}
	return string(data), true, nil
}

// single reads a file that holds one number, or "max" as Infinity.
func (r *reader) single(name, why string) (*uint64, error) {
	text, ok, err := r.file(name, why)
	if err != nil || !ok {
		return nil, err
	}
	text = strings.TrimSpace(text)
	if text == "max" {
		v := Infinity
		return &v, nil
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, parseError(name, text)
	}
	return &v, nil
}

// keyed reads a file of "key number" lines.
func (r *reader) keyed(name, why string) (map[string]uint64, error) {
	text, ok, err := r.file(name, why)
	if err != nil || !ok {
		return nil, err
	}
	values := map[string]uint64{}
	for line := range strings.Lines(text) {
		key, number, found := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseUint(number, 10, 64)
		if !found || err != nil {
			return nil, parseError(name, strings.TrimSpace(line))
		}
		values[key] = v
	}
	return values, nil
}

// identity returns the inode of the cgroup's directory, which the kernel does not use twice; 0 if
// it cannot be read.
func identity(dir *os.Root) uint64 {
	info, err := dir.Stat(".")
	if err != nil {
		return 0
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}
