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

// Conflict is the key under which a host reports that another one has its machine-id.
func (k Keys) Conflict(machine, boot string) string {
	return k.prefix + "/conflicts/" + machine + "/" + boot
}

// Encode returns a record as a key's value.
func Encode[T Host | Pool](r T) []byte {
	content, _ := json.Marshal(r) // cannot fail: numbers, texts and lists of them
	return content
}

// DecodeHost reads the value of a host's key, or of a conflict's.
func DecodeHost(content []byte) (Host, error) {
	var h Host
	if err := json.Unmarshal(content, &h); err != nil {
		return Host{}, err
	}
	if h.Schema != Schema {
		return Host{}, fmt.Errorf("is of schema %d, and this version knows %d", h.Schema, Schema)
	}
	return h, nil
}
