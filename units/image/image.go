// Package image is the form of a container image that was unpacked: a directory with the image's
// file system and a file about it.
//
// It owns that file, and trusts nothing in it: programs of another user write it. It must not know
// how an image is fetched, or what runs in it.
package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/regular"
)

// Names in the directory of an unpacked image.
const (
	RootName = "rootfs"     // the file system
	FileName = "image.json" // Info, written last
)

// Scratch is a directory of each unpacked image. A PID 1 before PrivateTmpEx= mounts a file system
// in memory over it, which units/render has bound over /tmp and /var/tmp of the engine. It also
// looks it up for the commands of root in the unit, for which it stays as it is, and empty.
const Scratch = "/run/pool-engine-tmp"

// format is that of FileName.
const format = 1

// maxFile is its size, in bytes: configurations of images have some kilobytes.
const maxFile = 1 << 20

// Info is what is known of an unpacked image.
type Info struct {
	Format       int      `json:"format"`
	Ref          string   `json:"ref"`    // as it was fetched
	Digest       string   `json:"digest"` // of its manifest, or of the list that names it
	Architecture string   `json:"architecture"`
	Entrypoint   []string `json:"entrypoint,omitempty"`
	Cmd          []string `json:"cmd,omitempty"`
	Env          []string `json:"env,omitempty"` // KEY=value
	WorkingDir   string   `json:"working_dir,omitempty"`
	Bytes        int64    `json:"bytes"`   // of files
	Entries      int      `json:"entries"` // of layers
	Skipped      int      `json:"skipped,omitempty"`
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Bounds of what an image may say, which goes into units and messages.
const (
	mostVariables = 1000
	mostText      = 32 << 10 // bytes of one variable, or word of a command
)

// Check returns what of an image cannot be used.
func (i Info) Check() error {
	switch {
	case i.Format != format:
		return fmt.Errorf("%s has the format %d, not %d", FileName, i.Format, format)
	case !digestForm.MatchString(i.Digest):
		return errors.New("its digest is none")
	case i.Bytes < 0 || i.Entries < 0:
		return errors.New("its size is none")
	case len(i.Env) > mostVariables || len(i.Entrypoint) > mostVariables || len(i.Cmd) > mostVariables:
		return errors.New("its configuration is too long")
	}
	for _, list := range [][]string{i.Entrypoint, i.Cmd, i.Env, {i.WorkingDir, i.Ref, i.Architecture}} {
		for _, text := range list {
			if len(text) > mostText || strings.ContainsRune(text, 0) || strings.ToValidUTF8(text, "") != text {
				return errors.New("its configuration has a text that is too long, or none")
			}
		}
	}
	return nil
}

// Marshal returns the content of the file.
func (i Info) Marshal() ([]byte, error) {
	i.Format = format
	if err := i.Check(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(i, "", "\t")
}

// Read reads the file of an unpacked image. One that is not there means that the image is not
// whole.
func Read(dir string) (Info, error) {
	f, _, err := regular.Open(filepath.Join(dir, FileName))
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Info{}, err
	}
	return parse(data)
}

// parse parses the content of the file. An image that cannot be used is none.
func parse(data []byte) (Info, error) {
	var i Info
	if len(data) > maxFile {
		return Info{}, fmt.Errorf("%s has more than %d bytes", FileName, maxFile)
	}
	if err := json.Unmarshal(data, &i); err != nil {
		return Info{}, fmt.Errorf("%s: %w", FileName, err)
	}
	if err := i.Check(); err != nil {
		return Info{}, err
	}
	return i, nil
}

// Root is the file system of an unpacked image.
func Root(dir string) string { return filepath.Join(dir, RootName) }

// Short is the beginning of a digest, for people.
func Short(digest string) string {
	return digest[:min(len(digest), len("sha256:")+12)]
}

// Variables returns the environment as a map. What is no assignment is left out.
func (i Info) Variables() map[string]string {
	all := make(map[string]string, len(i.Env))
	for _, assignment := range i.Env {
		if name, value, found := strings.Cut(assignment, "="); found && name != "" {
			all[name] = value
		}
	}
	return all
}
