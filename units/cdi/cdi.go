// Package cdi reads what the container device interface (CDI) says that a program with GPUs of
// NVIDIA needs in a container: the files of the driver, and variables.
//
// It owns the form of these files, and trusts those that only root can write. Device nodes are not
// taken from them: the host's inventory has those. Hooks are programs, and are not executed: what
// those of NVIDIA make, names of libraries, is made of further binds. It must not know pools,
// images or units.
package cdi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is that of the devices.
const Kind = "nvidia.com/gpu"

// file is where the hints have it written.
const file = "/etc/cdi/nvidia.json"

// Generate is the command that writes it.
const Generate = "nvidia-ctk cdi generate --format=json --device-name-strategy=index --device-name-strategy=uuid " +
	"--output=" + file

// Dirs are the directories that are read; a later one wins.
func Dirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Error is why GPUs cannot be had in a container, and what to do.
type Error struct {
	Message, Hint string
}

func (e *Error) Error() string { return e.Message }

// Mount is a file or directory of the host, and where it is in the container.
type Mount struct {
	Host, Inside string
}

// Edits are what a container needs.
type Edits struct {
	Mounts    []Mount
	Env       []string // KEY=value
	Folders   []string // of libraries, in the container
	Libraries []string // the names by which programs ask for those that are mounted
}

// Bounds of what is read.
const (
	mostBytes  = 1 << 20
	mostFiles  = 256
	mostMounts = 2048
)

// Read returns what the devices of those names need. A name is an index, the beginning of a UUID,
// or something else, which any device fits. The error is an *Error.
func Read(dirs, names []string) (Edits, error) {
	found, others, err := specs(dirs)
	if err != nil {
		return Edits{}, err
	}
	if len(found) == 0 {
		return Edits{}, nothing(others, dirs)
	}
	var known []string
	for _, s := range found {
		for _, d := range s.Devices {
			known = append(known, d.Name)
		}
	}
	used := slices.Clone(found)
	for i := range used { // of its devices only those that are asked for
		used[i].Devices = nil
	}
	for _, name := range names {
		at, device := find(found, name)
		if device == nil {
			return Edits{}, &Error{
				fmt.Sprintf("no file of the container device interface has the device %s=%s; there are %s", Kind,
					name, listed(known)),
				"Write the file again: " + Generate}
		}
		used[at].Devices = append(used[at].Devices, *device)
	}
	var e editor
	for _, s := range used {
		if len(s.Devices) == 0 {
			continue
		}
		for _, edits := range append([]containerEdits{s.Edits}, editsOf(s.Devices)...) {
			if err := e.take(s.path, edits); err != nil {
				return Edits{}, err
			}
		}
	}
	return e.done(), nil
}

func editsOf(devices []device) (all []containerEdits) {
	for _, d := range devices {
		all = append(all, d.Edits)
	}
	return all
}

func listed(names []string) string {
	const most = 12
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		names = append(slices.Clone(names[:most]), "…")
	}
	return strings.Join(names, ", ")
}

// find returns the device of a name. The later file wins.
func find(all []spec, name string) (at int, found *device) {
	for i := len(all) - 1; i >= 0; i-- {
		for j, d := range all[i].Devices {
			if fits(d.Name, name) {
				return i, &all[i].Devices[j]
			}
		}
	}
	return -1, nil
}

// fits reports whether a device of a file is the one of a pool file.
func fits(device, name string) bool {
	upper := strings.ToUpper(name)
	switch {
	case device == name:
		return true
	case strings.HasPrefix(upper, "GPU-"), strings.HasPrefix(upper, "MIG-"):
		return len(device) >= len(name) && strings.EqualFold(device[:len(name)], name)
	default: // a bus id, by which no file names a device
		return strings.ContainsAny(name, ":.")
	}
}

// nothing is the error of a host without a file for the kind.
func nothing(others, dirs []string) *Error {
	message := fmt.Sprintf("no file *.json in %s describes devices %s", strings.Join(dirs, " or "), Kind)
	hint := "Install nvidia-container-toolkit, then: " + Generate
	if len(others) > 0 {
		message += "; " + listed(others) + " is in YAML, which is not read"
		hint = "Write it in JSON, which podman and docker read too: " + Generate +
			". Remove the one in YAML if it is in the same directory: they refuse a device that two files have."
	}
	return &Error{message, hint}
}

// specs reads the files for the kind, and returns the names of those in YAML.
func specs(dirs []string) (all []spec, others []string, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, &Error{err.Error(), "Make it a directory that root can read."}
		}
		begin := len(all)
		for _, entry := range entries[:min(len(entries), mostFiles)] {
			name := filepath.Join(dir, entry.Name())
			switch filepath.Ext(name) {
			case ".yaml", ".yml":
				others = append(others, name)
			case ".json":
				s, err := load(name)
				if err != nil {
					return nil, nil, err
				}
				if s.Kind == Kind {
					all = append(all, s)
				}
			}
		}
		if err := twice(all[begin:]); err != nil {
			return nil, nil, err
		}
	}
	return all, others, nil
}

// twice refuses a device that two files of a directory have: neither wins.
func twice(of []spec) error {
	first := make(map[string]string)
	for _, s := range of {
		for _, d := range s.Devices {
			if other, found := first[d.Name]; found {
				return &Error{fmt.Sprintf("device %s=%s is in %s and in %s", Kind, d.Name, other, s.path),
					"Remove one of them."}
			}
			first[d.Name] = s.path
		}
	}
	return nil
}

// load reads a file that only root can have written.
func load(name string) (spec, error) {
	wrong := func(format string, args ...any) error {
		return &Error{name + ": " + fmt.Sprintf(format, args...), "Write it again: " + Generate}
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return spec{}, wrong("%v", errors.Unwrap(err))
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return spec{}, wrong("%v", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return spec{}, wrong("it is no regular file")
	case st.Uid != 0 && int(st.Uid) != os.Geteuid(), st.Mode&0o022 != 0:
		return spec{}, &Error{name + ": others than root can write it",
			fmt.Sprintf("chown root:root '%s'; chmod 644 '%s'", name, name)}
	}
	data, err := io.ReadAll(io.LimitReader(f, mostBytes+1))
	if err != nil {
		return spec{}, wrong("%v", err)
	}
	if len(data) > mostBytes {
		return spec{}, wrong("it has more than %d bytes", mostBytes)
	}
	s, err := parse(data)
	if err != nil {
		return spec{}, wrong("%v", err)
	}
	s.path = name
	return s, nil
}
