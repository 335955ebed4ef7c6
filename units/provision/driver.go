package provision

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/cdi"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
)

// driver is what of the host's GPU driver an engine in an image gets.
type driver struct {
	mounts    []pool.Mount
	variables map[string]string
	libraries []string
}

// driver finds it for a pool with GPUs; a pool without has none.
func (pr *Preparer) driver(p pool.Pool, c *contained) (driver, error) {
	var names []string
	for _, mask := range p.Devices {
		for _, name := range mask {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return driver{}, nil
	}
	edits, err := cdi.Read(pr.CDI, names)
	var wrong *cdi.Error
	if errors.As(err, &wrong) {
		return driver{}, c.fail(wrong.Hint, "its GPUs need the driver's files: %s", wrong.Message)
	}
	d := driver{libraries: edits.Libraries, variables: make(map[string]string)}
	for _, m := range edits.Mounts {
		for _, at := range []string{m.Host, m.Inside} {
			if why := confine.Path(at); why != "" {
				return driver{}, c.fail("Write the description again: "+cdi.Generate,
					"its GPUs need the driver's files: path %q %s", at, why)
			}
		}
		d.mounts = append(d.mounts, pool.Mount{Host: m.Host, Inside: m.Inside})
	}
	for _, assignment := range edits.Env {
		name, value, _ := strings.Cut(assignment, "=")
		d.variables[name] = value
	}
	d.search(c, edits.Folders)
	return d, nil
}

const searchVariable = "LD_LIBRARY_PATH"

// search has the dynamic loader of the image look in the folders of the driver. One with the C
// library of the image is searched in any case, and in front of the engine's own it would replace
// what the engine brings along.
func (d driver) search(c *contained, folders []string) {
	var list []string
	if own := c.env[searchVariable]; own != "" {
		list = append(list, own)
	}
	for _, folder := range folders {
		if _, err := c.Stat(path.Join(folder, "libc.so.6")); err != nil {
			list = append(list, folder)
		}
	}
	if len(list) > 0 {
		d.variables[searchVariable] = strings.Join(list, ":")
	}
}

// without leaves out the libraries that the driver has.
func (d driver) without(n programs.Needs) programs.Needs {
	n.Missing = slices.DeleteFunc(slices.Clone(n.Missing), func(m programs.Missing) bool {
		return m.Kind == programs.Library && slices.Contains(d.libraries, m.Name)
	})
	return n
}
