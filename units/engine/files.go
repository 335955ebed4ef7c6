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
	Instead string // a better way to give it to the engine, for a hint; empty: none
}

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
		all = append(all, File{Key: fmt.Sprintf("files[%d]", i), Path: named})
	}
	if a, ok := For(p.Engine); ok {
		all = append(all, a.Files(p)...)
	}
	kept := all[:0]
	for _, f := range all {
		if path.IsAbs(f.Path) {
			f.Path = path.Clean(f.Path)
		}
		if i := slices.IndexFunc(kept, func(k File) bool { return k.Path == f.Path }); i >= 0 {
			kept[i].Weights = kept[i].Weights || f.Weights
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

// fileFlag is a flag by which an engine is given files to read.
type fileFlag struct {
	Spellings []string
	Variables []string                    // of the environment, with the same effect
	Paths     func(value string) []string // in its value; nil: the value is a path
	Weights   bool                        // as in File
	Many      bool                        // every argument up to the next flag is a value
	Instead   string                      // as in File
}

// files returns what the pool's arguments and variables name by the flags of a table.
func (s flagSyntax) files(p pool.Pool, table []fileFlag) []File {
	var found []File
	for i, arg := range p.Args {
		name := s.name(arg)
		for _, f := range table {
			if name == "" || !slices.Contains(f.Spellings, name) {
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
			found = append(found, File{Key: key, Flag: flag, Path: named, Weights: f.Weights, Instead: f.Instead})
		}
	}
	return found
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

// named are the paths of "name=/path", or of JSON with a member "path", as vLLM reads adapters.
func named(value string) []string {
	if strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[") {
		return inJSON("path")(value)
	}
	if _, after, found := strings.Cut(value, "="); found {
		return absolute(after)
	}
	return absolute(value)
}

// inJSON returns a function that finds absolute paths in members of an object, or of the objects of
// a list.
func inJSON(members ...string) func(string) []string {
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
					found = append(found, absolute(text)...)
				}
			}
		}
		return found
	}
}
