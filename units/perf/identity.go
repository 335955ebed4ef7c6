package perf

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Identity is what a measurement is of: another engine, version, model, setting or device is
// measured again.
type Identity struct {
	Engine   string   `json:"engine"`
	Version  string   `json:"engine_version"` // empty: the engine does not print it
	Model    string   `json:"model"`          // the reference in the pool's file
	Contents string   `json:"contents"`       // digest of the model's files, else what identifies them
	Settings string   `json:"settings"`       // a hash of flags, variables and limits
	Mask     []string `json:"device_mask"`    // UUIDs in order; empty: the CPU
}

// Key returns the identity as one short text. The reference of the model does not count: the same
// files under another name are as fast.
func (i Identity) Key() string {
	i.Model = ""
	if len(i.Mask) == 0 {
		i.Mask = []string{}
	}
	return Hash(i)
}

// Hash returns a hash of values that can be written as JSON, "" for others.
func Hash(values any) string {
	text, err := json.Marshal(values)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Changed names what differs between two identities, for a message.
func (i Identity) Changed(from Identity) []string {
	var names []string
	for _, part := range []struct {
		name string
		same bool
	}{
		{"the engine", i.Engine == from.Engine},
		{"the engine's version", i.Version == from.Version},
		{"the model", i.Contents == from.Contents},
		{"its settings", i.Settings == from.Settings},
		{"its devices", Hash(i.Mask) == Hash(from.Mask) || len(i.Mask)+len(from.Mask) == 0},
	} {
		if !part.same {
			names = append(names, part.name)
		}
	}
	return names
}

// Row is what is kept of one identity.
type Row struct {
	Identity Identity `json:"identity"`
	Last     Result   `json:"last"`
	Former   *Result  `json:"former,omitempty"` // the one before, see Best
}

// Best returns the measurement that counts: the last, unless it was disturbed and the one before
// was not.
func (r Row) Best() Result {
	if r.Last.Disturbed != "" && r.Former != nil && r.Former.Disturbed == "" {
		return *r.Former
	}
	return r.Last
}

// With returns the row after another measurement. The one that counted until then is its former.
func (r Row) With(next Result) Row {
	former := r.Best()
	return Row{Identity: r.Identity, Last: next, Former: &former}
}
