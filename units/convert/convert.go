// Package convert translates what starts an engine elsewhere into pool files: a configuration of
// llama-swap, a unit file of systemd with its drop-ins, or a quadlet of podman.
//
// It owns the formats of these files and what their keys are in a pool file. It is a pure function
// of their text. What has no counterpart is a comment in the pool file, with its place and the
// reason; secrets are never copied. Every pool file that it returns is one that the configuration
// accepts. What the options of an engine mean is asked of its adapter.
package convert

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what is read and written.
const (
	MaxBytes = 1 << 20  // of a source
	maxPools = 1000     // of one source
	maxText  = 64 << 10 // of a command line after macros
)

// Source is one file. The first one decides the format; others are its drop-ins, in their order.
type Source struct {
	Name string // for messages
	Data []byte
}

// Result is what sources became.
type Result struct {
	Format string
	Pools  []Pool
	Notes  []Note // about no pool in particular
	Failed int    // engines of the source that got no pool file
}

// Pool is a pool file.
type Pool struct {
	ID    string // the file's name is ID.toml
	Text  string
	Notes []Note // those that the text has as comments
}

// Note is a part of a source that was not translated, or only in part, and why.
type Note struct {
	File string
	Line int // from 1; 0: the whole file
	Text string
}

func (n Note) String() string {
	if n.Line == 0 {
		return n.File + ": " + n.Text
	}
	return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
}

// The formats.
const (
	Swap    = "llama-swap configuration"
	Unit    = "systemd unit"
	Quadlet = "quadlet"
)

// Convert translates a source and its drop-ins. An error is about the source as a whole, and names
// its place.
func Convert(sources ...Source) (Result, error) {
	for _, s := range sources {
		switch {
		case len(s.Data) > MaxBytes:
			return Result{}, fmt.Errorf("%s: the file has %d bytes; want at most %d", s.Name, len(s.Data), MaxBytes)
		case bytes.IndexByte(s.Data, 0) >= 0 || !utf8.Valid(s.Data):
			return Result{}, fmt.Errorf("%s: this is not a text file in UTF-8", s.Name)
		case len(bytes.TrimSpace(s.Data)) == 0 && s.Name == sources[0].Name:
			return Result{}, fmt.Errorf("%s: the file is empty", s.Name)
		}
	}
	if !sectioned(sources[0]) {
		if len(sources) > 1 {
			return Result{}, fmt.Errorf("%s: a %s has no drop-ins, and %s was given, too", sources[0].Name, Swap,
				sources[1].Name)
		}
		return fromSwap(sources[0])
	}
	return fromUnit(sources)
}

// sectioned reports whether a file has the form of systemd's: its first line that is no comment is
// the name of a section.
func sectioned(s Source) bool {
	if ext := path.Ext(s.Name); slices.Contains([]string{".yaml", ".yml"}, ext) {
		return false
	} else if slices.Contains([]string{".service", ".container", ".pod", ".kube"}, ext) {
		return true
	}
	for line := range strings.Lines(string(s.Data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
			return line[0] == '['
		}
	}
	return false
}

// finish makes pool files of what was read, and gives each its own id.
func finish(format string, launches []*launch, notes []Note) Result {
	r := Result{Format: format, Notes: notes}
	var drafts []*draft
	taken := make(map[string]bool)
	for _, l := range launches {
		d, err := l.draft()
		if err != nil {
			r.Failed++
			r.Notes = append(r.Notes, l.note("%s: no pool file: %v", l.name, err))
			r.Notes = append(r.Notes, l.notes...)
			continue
		}
		d.id = unused(idOf(l.name), taken)
		drafts = append(drafts, d)
	}
	sharedDevices(drafts)
	ownPorts(drafts)
	for _, d := range drafts {
		text, err := d.text()
		if err != nil {
			r.Failed++
			r.Notes = append(r.Notes, d.from.note("%s: no pool file: %v", d.from.name, err))
			r.Notes = append(r.Notes, d.notes...)
			continue
		}
		r.Pools = append(r.Pools, Pool{ID: d.id, Text: text, Notes: d.notes})
	}
	slices.SortStableFunc(r.Notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return r
}

const maxID = 63

// idOf returns the id that is nearest to a name.
func idOf(name string) string {
	id := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.ToLower(name))
	id = strings.TrimLeft(id, "._-")
	if len(id) > maxID {
		id = id[:maxID]
	}
	if id = strings.TrimRight(id, "._-"); id == "" {
		return "pool"
	}
	return id
}

// unused returns an id that no other pool of the source has.
func unused(id string, taken map[string]bool) string {
	free := id
	for n := 2; taken[free]; n++ {
		suffix := fmt.Sprintf("-%d", n)
		free = id[:min(len(id), maxID-len(suffix))] + suffix
	}
	taken[free] = true
	return free
}
