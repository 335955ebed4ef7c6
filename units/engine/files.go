package engine

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// File is a file or directory of the host that an engine reads beside its model.
type File struct {
	Key     string // what of the pool file names it: "files[0]", "args[3]" or "env.LLAMA_ARG_MMPROJ"
	Flag    string // the flag or variable that names it; empty: it is in the key files
	Path    string // as written
	Weights bool   // it is loaded whole, beside the model
	Model   bool   // it is a part of a model, or may be one, by its name
	Instead string // a better way to give it to the engine, for a hint; empty: none
	Remote  bool   // it is on another host: Path is its name or address there
}

// IsModel reports whether it is a model or a part of one, of which the host's policy says where it
// may be from.
func (f File) IsModel() bool { return f.Weights || f.Model }

// What describes it in a message.
func (f File) What() string {
	if f.Flag == "" {
		return f.Key
	}
	if strings.HasPrefix(f.Key, "env.") {
		return f.Key
	}
	return f.Key + " (" + f.Flag + ")"
}

// Brought returns the files that a pool brings along: those of its key files, and those that its
// arguments and variables name. Each path is clean if it is absolute, and is returned once.
func Brought(p pool.Pool) []File {
	if p.Provisioning.Mode == pool.ModeExternal {
		return nil
	}
	var all []File
	for i, named := range p.Files {
		all = append(all, File{Key: fmt.Sprintf("files[%d]", i), Path: named, Model: HoldsWeights(named)})
	}
	if a, ok := For(p.Engine); ok {
		all = slices.DeleteFunc(append(all, a.Files(p)...), func(f File) bool { return f.Remote })
	}
	kept := all[:0]
	for _, f := range all {
		if path.IsAbs(f.Path) {
			f.Path = path.Clean(f.Path)
		}
		if i := slices.IndexFunc(kept, func(k File) bool { return k.Path == f.Path }); i >= 0 {
			kept[i].Weights = kept[i].Weights || f.Weights
			kept[i].Model = kept[i].Model || f.Model
			if kept[i].Flag == "" {
				kept[i].Key, kept[i].Flag = f.Key, f.Flag
			}
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

// weightSuffixes are those of files that hold weights, whatever reads them.
var weightSuffixes = []string{".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx", ".plan", ".engine"}

// HoldsWeights reports whether a file's name is one of files of weights.
func HoldsWeights(name string) bool {
	return slices.Contains(weightSuffixes, strings.ToLower(path.Ext(name)))
}

// Remote returns what the arguments and variables of a pool name on other hosts: the engine would
// download it, or look for it in its cache.
func Remote(p pool.Pool) []File {
	a, ok := For(p.Engine)
	if !ok || p.Provisioning.Mode == pool.ModeExternal {
		return nil
	}
	return slices.DeleteFunc(a.Files(p), func(f File) bool { return !f.Remote })
}

// Written returns what the arguments and variables of a pool name for its engine to write to. Each
// path is as written.
func Written(p pool.Pool) []File {
	a, _ := For(p.Engine)
	w, writes := a.(interface{ Written(p pool.Pool) []File })
	if !writes || p.Provisioning.Mode == pool.ModeExternal {
		return nil
	}
	return w.Written(p)
}

// OfflineBy is how a pool does what Offline reports, for hints.
const OfflineBy = "HF_HUB_OFFLINE in [env]; of llama-server --offline"

// Offline reports whether a pool has its engine use what a cache holds, and download nothing.
func Offline(p pool.Pool) bool {
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "LLAMA_ARG_OFFLINE", "LLAMA_OFFLINE"} {
		if v := strings.ToLower(p.Variables()[name]); v != "" && !isFalse(v) && v != "no" {
			return true
		}
	}
	return p.Engine == LlamaCpp && llamaSyntax.has(p.Args, "--offline")
}

// fileFlag is a flag by which an engine is given files to read.
type fileFlag struct {
	Spellings []string
	Variables []string                    // of the environment, with the same effect
	Paths     func(value string) []string // in its value; nil: the value is a path
	Weights   bool                        // as in File
	Model     bool                        // as in File
	Remote    func(value string) []string // names and addresses on other hosts in its value; nil: none
	Alone     bool                        // it has no value, and stands for a model of another host
	Many      bool                        // every argument up to the next flag is a value
	Instead   string                      // as in File
}

// files returns what the pool's arguments and variables name by the flags of a table.
func (s flagSyntax) files(p pool.Pool, table []fileFlag) []File {
	var found []File
	for i, arg := range p.Args {
		name := s.name(arg)
		for _, f := range table {
			if s.means(name, f.Spellings...) == "" {
				continue
			}
			if f.Alone {
				found = append(found,
					File{Key: fmt.Sprintf("args[%d]", i), Flag: name, Path: name, Model: true, Remote: true})
				continue
			}
			if _, value, joined := strings.Cut(arg, "="); joined {
				found = append(found, f.in(fmt.Sprintf("args[%d]", i), name, value)...)
				continue
			}
			for j := i + 1; j < len(p.Args) && (j == i+1 || f.Many && !strings.HasPrefix(p.Args[j], "-")); j++ {
				found = append(found, f.in(fmt.Sprintf("args[%d]", j), name, p.Args[j])...)
			}
		}
	}
	for _, f := range table {
		for _, name := range f.Variables {
			if value := p.Variables()[name]; value != "" {
				key, _ := p.Variable(name)
				found = append(found, f.in(key, name, value)...)
			}
		}
	}
	return found
}

// in returns the files that a value names.
func (f fileFlag) in(key, flag, value string) []File {
	paths := f.Paths
	if paths == nil {
		paths = func(value string) []string { return []string{value} }
	}
	var found []File
	for _, named := range paths(value) {
		if named != "" {
			found = append(found, File{Key: key, Flag: flag, Path: named, Weights: f.Weights,
				Model: f.Model, Instead: f.Instead})
		}
	}
	if f.Remote != nil {
		for _, name := range f.Remote(value) {
			found = append(found, File{Key: key, Flag: flag, Path: name, Model: true, Remote: true})
		}
	}
	return found
}

// wholly and nothing are for values that are one name on another host, and no path.
func wholly(value string) []string { return []string{value} }
func nothing(string) []string      { return nil }

// hubName are the characters of names on a hub.
const hubName = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// onHub is a value that names a repository of a hub, "org/name", or is an address: where an engine
// takes paths too, it looks for a path of that name first, which is relative and so is none.
func onHub(value string) []string {
	org, name, found := strings.Cut(value, "/")
	plain := func(s string) bool {
		return s != "" && s != "." && s != ".." && strings.Trim(s, hubName) == ""
	}
	if found && plain(org) && plain(name) || strings.Contains(value, "://") {
		return []string{value}
	}
	return nil
}

// inCommas are the paths of "a.gguf,b.gguf".
func inCommas(value string) []string { return strings.Split(value, ",") }

// scaled are the paths of "a.gguf:0.5,b.gguf:1"; before 2026 a scale was the next argument.
func scaled(value string) []string {
	paths := inCommas(value)
	for i, part := range paths {
		if at := strings.LastIndexByte(part, ':'); at >= 0 {
			if _, err := strconv.ParseFloat(part[at+1:], 64); err == nil {
				paths[i] = part[:at]
			}
		}
	}
	return paths
}

// absolute is a path where a value may also be something else: the name of a model or of a built-in
// template, or the template itself.
func absolute(value string) []string {
	if strings.HasPrefix(value, "/") && !strings.ContainsAny(value, "\n{") {
		return []string{value}
	}
	return nil
}

// named are the values of "name=value", or of the member "path" of JSON, as vLLM reads adapters,
// that take accepts.
func named(take func(string) []string) func(value string) []string {
	return func(value string) []string {
		if strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[") {
			return inJSON(take, "path")(value)
		}
		if _, after, found := strings.Cut(value, "="); found {
			return take(after)
		}
		return take(value)
	}
}

// inJSON returns a function that finds what take accepts in members of an object, or of the objects
// of a list.
func inJSON(take func(string) []string, members ...string) func(string) []string {
	return func(value string) []string {
		var list []map[string]json.RawMessage
		if json.Unmarshal([]byte(value), &list) != nil {
			var one map[string]json.RawMessage
			if json.Unmarshal([]byte(value), &one) != nil {
				return nil // the engine reports it
			}
			list = append(list, one)
		}
		var found []string
		for _, object := range list {
			for _, name := range members {
				var text string
				if json.Unmarshal(object[name], &text) == nil {
					found = append(found, take(text)...)
				}
			}
		}
		return found
	}
}

// listed returns a function that finds what take accepts in "a,b".
func listed(take func(string) []string) func(string) []string {
	return func(value string) (found []string) {
		for _, part := range inCommas(value) {
			found = append(found, take(part)...)
		}
		return found
	}
}
