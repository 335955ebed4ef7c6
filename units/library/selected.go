package library

import (
	"path"
	"regexp"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// shard is the name of a part of a model.
var shard = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.[a-z]+)$`)

// selected returns the files of a commit that a reference means, of their names in order. The one
// that an engine opens is the first.
func selected(r modelref.Ref, names []string) (out []string) {
	for _, n := range names {
		if means(r, n) {
			out = append(out, n)
		}
	}
	return out
}

func means(r modelref.Ref, name string) bool {
	switch {
	case r.Scheme == modelref.HF && r.Quant != "":
		return quantised(name, r.Quant)
	case r.Scheme == modelref.HF && r.Path != "":
		return name == r.Path || sameShards(name, r.Path)
	}
	return true
}

// quantised reports whether a file holds the weights of a quantisation: "llama-8b-Q4_K_M.gguf", or
// a part of it, or "Q4_K_M/llama-8b-00001-of-00002.gguf".
func quantised(name, quant string) bool {
	lower := strings.ToLower(name)
	if !strings.HasSuffix(lower, ".gguf") || strings.HasPrefix(path.Base(lower), "mmproj") {
		return false
	}
	words := strings.FieldsFunc(
		strings.TrimSuffix(lower, ".gguf"),
		func(c rune) bool { return strings.ContainsRune("/-.", c) },
	)
	wanted := strings.FieldsFunc(strings.ToLower(quant), func(c rune) bool { return strings.ContainsRune("/-.", c) })
	for i := 0; i+len(wanted) <= len(words); i++ {
		if strings.Join(words[i:i+len(wanted)], "-") == strings.Join(wanted, "-") {
			return wanted[0] == "ud" || i == 0 || words[i-1] != "ud" // Unsloth's are others
		}
	}
	return false
}

// sameShards reports whether two files are parts of one model.
func sameShards(a, b string) bool {
	x, y := shard.FindStringSubmatch(a), shard.FindStringSubmatch(b)
	return x != nil && y != nil && x[1] == y[1] && x[3] == y[3] && x[4] == y[4]
}
