package record

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Bounds of a host's list of models: a store of a cluster is small, and has one of each host.
const (
	// modelsLimit bounds the list, in bytes of names and digests; the value has half as much again.
	modelsLimit = 48 << 10
	// digestsLimit is how many files of one model are named.
	digestsLimit = 128
)

// Models is the value of a host's key about its cache of models. Nothing of it moves while a
// download is under way.
type Models struct {
	Schema    int     `json:"schema"`
	MachineID string  `json:"machine_id"`
	Models    []Model `json:"models"`
	Truncated bool    `json:"truncated"` // there are more, which are smaller
}

// Model is a model of the cache.
type Model struct {
	Model   string   `json:"model"` // "hf:org/name", or the name of its directory
	Bytes   int64    `json:"bytes"` // of whole files
	Files   int      `json:"files"`
	Whole   bool     `json:"whole"`   // no file of it is there in part
	Digests []string `json:"digests"` // sha256:… of its files, and of images
}

// ModelsOf is the record of a cache: of one that is larger than the bounds, the largest models.
func ModelsOf(machine string, cache []wire.CachedModel) Models {
	r := Models{Schema: Schema, MachineID: machine, Models: []Model{}}
	cache = slices.Clone(cache)
	slices.SortFunc(cache, func(a, b wire.CachedModel) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Model, b.Model))
	})
	size := 0
	for _, c := range cache {
		if c.Files == 0 {
			continue // a download that has completed nothing
		}
		m := Model{Model: bounded(strings.ToValidUTF8(c.Model, "\uFFFD")), Bytes: c.Bytes, Files: c.Files,
			Whole: c.Partial == 0, Digests: list(c.Digests)}
		if len(m.Digests) > digestsLimit {
			m.Digests, r.Truncated = m.Digests[:digestsLimit], true
		}
		if size += m.size(); size > modelsLimit {
			r.Truncated = true
			break
		}
		r.Models = append(r.Models, m)
	}
	slices.SortFunc(r.Models, func(a, b Model) int { return cmp.Compare(a.Model, b.Model) })
	return r
}

// size is about what a model takes in the value, in bytes.
func (m Model) size() int {
	n := len(m.Model) + 64
	for _, d := range m.Digests {
		n += len(d) + 3
	}
	return n
}
