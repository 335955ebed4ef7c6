package record

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Keys are the names below a prefix.
type Keys struct{ prefix string }

// Below returns the keys below a prefix, which begins with a slash and ends with none.
func Below(prefix string) Keys { return Keys{strings.TrimRight(prefix, "/")} }

// All is the prefix of every key.
func (k Keys) All() string { return k.prefix + "/" }

// Host is the key of a host.
func (k Keys) Host(machine string) string { return k.prefix + "/hosts/" + machine }

// Pools is the prefix of a host's pools.
func (k Keys) Pools(machine string) string { return k.prefix + "/pools/" + machine + "/" }

// Pool is the key of a pool.
func (k Keys) Pool(machine, pool string) string { return k.Pools(machine) + pool }

// Models is the key of what the cache of a host has.
func (k Keys) Models(machine string) string { return k.prefix + "/models/" + machine }

// Conflict is the key under which a host reports that another one has its machine-id.
func (k Keys) Conflict(machine, boot string) string {
	return k.prefix + "/conflicts/" + machine + "/" + boot
}

// Kind is what a key is about.
type Kind int

// Kinds of keys. The zero value is a key of something else.
const (
	KindHost Kind = iota + 1
	KindPool
	KindConflict
	KindModels
)

// Parse returns what a key is about, the machine-id in it, and behind that the pool, or the boot id
// of a conflict.
func (k Keys) Parse(key string) (kind Kind, machine, rest string) {
	below, is := strings.CutPrefix(key, k.All())
	if !is {
		return 0, "", ""
	}
	folder, below, _ := strings.Cut(below, "/")
	machine, rest, deeper := strings.Cut(below, "/")
	switch {
	case machine == "" || strings.Contains(rest, "/"):
	case folder == "hosts" && !deeper:
		return KindHost, machine, ""
	case folder == "models" && !deeper:
		return KindModels, machine, ""
	case folder == "pools" && rest != "":
		return KindPool, machine, rest
	case folder == "conflicts" && rest != "":
		return KindConflict, machine, rest
	}
	return 0, "", ""
}

// Encode returns a record as a key's value.
func Encode[T Host | Pool | Models](r T) []byte {
	content, _ := json.Marshal(r) // cannot fail: numbers, texts and lists of them
	return content
}

// DecodeHost reads the value of a host's key, or of a conflict's.
func DecodeHost(content []byte) (Host, error) {
	return decode(content, func(h *Host) int { return h.Schema })
}

// DecodePool reads the value of a pool's key.
func DecodePool(content []byte) (Pool, error) {
	return decode(content, func(p *Pool) int { return p.Schema })
}

// DecodeModels reads the value of a key about a cache.
func DecodeModels(content []byte) (Models, error) {
	return decode(content, func(m *Models) int { return m.Schema })
}

func decode[T any](content []byte, schema func(*T) int) (T, error) {
	var r, none T
	if err := json.Unmarshal(content, &r); err != nil {
		return none, err
	}
	if of := schema(&r); of != Schema {
		return none, fmt.Errorf("is of schema %d, and this version knows %d", of, Schema)
	}
	return r, nil
}
