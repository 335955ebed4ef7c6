package modelref

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Choice is what a reference means of the files that its source has.
type Choice struct {
	Files []string // their paths, in order
	Open  string   // the one that an engine opens; "": the directory of all
	// Loose: the quantisation is the end of a longer one ("Q4_K_M" of "UD-Q4_K_M"), and is meant
	// only where no file has exactly that.
	Loose bool
}

// NoChoice is why a reference means no files: they are not there, or several could be meant.
type NoChoice struct {
	Problem, Hint string
	Several       bool
}

func (e *NoChoice) Error() string { return e.Problem }

// Choose returns the files that a reference means, of the paths of all that its source has: a named
// file with all parts that belong to it, the GGUF files of a quantisation, or all. The error is a
// *NoChoice.
func (r Ref) Choose(paths []string) (Choice, error) {
	switch {
	case r.Scheme == HF && r.Quant != "":
		return r.chooseQuant(paths)
	case r.Scheme == HF && r.Path != "":
		return r.chooseFile(r.Path, paths)
	case len(paths) == 0:
		return Choice{}, &NoChoice{Problem: r.String() + " has no files", Hint: "Check the name and the revision."}
	}
	c := Choice{Files: slices.Sorted(slices.Values(paths))}
	switch {
	case r.Scheme == OCI, r.Scheme == Image, r.Own():
		c.Open = onlyModel(c.Files)
	case r.Scheme == HTTPS, r.Scheme == S3 && !strings.HasSuffix(r.Path, "/"):
		c.Open = c.Files[0]
	}
	return c, nil
}

// shardForm is how llama.cpp and transformers name the parts of a model (llama_split_path).
var shardForm = lazy(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)$`)

// lazy compiles an expression when it is first used: most hosts have no model in parts.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

func (r Ref) chooseFile(file string, paths []string) (Choice, error) {
	if !slices.Contains(paths, file) {
		return Choice{}, &NoChoice{Problem: fmt.Sprintf("%s has no file %s", r.Repo, file),
			Hint: "Check its name, with upper and lower case."}
	}
	there := make(map[string]bool, len(paths))
	for _, p := range paths {
		there[p] = true
	}
	parts := partsOf(file)
	for _, part := range parts {
		if !there[part] {
			return Choice{}, &NoChoice{
				Problem: fmt.Sprintf("%s has %s and not %s, without which it is incomplete", r.Repo, file, part),
				Hint:    "Name another revision, or report it to the owner of the repository."}
		}
	}
	return Choice{Files: parts, Open: parts[0]}, nil
}

// partsOf returns the names of all parts of the model that a file is a part of.
func partsOf(name string) []string {
	m := shardForm().FindStringSubmatch(name)
	if m == nil {
		return []string{name}
	}
	count, _ := strconv.Atoi(m[3]) // five digits
	if part, _ := strconv.Atoi(m[2]); part < 1 || part > count {
		return []string{name}
	}
	parts := make([]string, 0, min(count, 1000))
	for i := 1; i <= count; i++ {
		parts = append(parts, fmt.Sprintf("%s-%05d-of-%s%s", m[1], i, m[3], m[4]))
	}
	return parts
}

// quantForm is where the quantisation begins in the name of a GGUF file or of its folder.
var quantForm = lazy(`(?i)(?:^|[-._])((?:UD-)?(?:I?Q[0-9]|TQ[0-9]|BF16|F16|F32|MXFP4)[A-Z0-9_]*)$`)

// quantOf returns the quantisation that a model's name ends with; "" for none.
func quantOf(model string) string {
	if m := quantForm().FindStringSubmatch(path.Base(model)); m != nil {
		return m[1]
	}
	return ""
}

// modelName returns the name of a GGUF file without what its parts differ in; "" for other files
// and for what accompanies a model (llama.cpp: mmproj, imatrix).
func modelName(name string) string {
	base := path.Base(name)
	if !strings.HasSuffix(base, ".gguf") || strings.HasPrefix(base, "mmproj") || strings.Contains(base, "imatrix") {
		return ""
	}
	if m := shardForm().FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return strings.TrimSuffix(name, ".gguf")
}

// isQuant reports whether a model's name, or that of its folder, ends with a quantisation.
func isQuant(model, quant string) bool {
	ends := func(name string) bool {
		before, found := strings.CutSuffix(strings.ToLower(name), strings.ToLower(quant))
		return found && (before == "" || strings.ContainsRune("-._", rune(before[len(before)-1])))
	}
	return ends(path.Base(model)) || path.Base(path.Dir(model)) != "." && ends(path.Base(path.Dir(model)))
}

func (r Ref) chooseQuant(paths []string) (Choice, error) {
	var models, there []string
	for _, p := range paths {
		name := modelName(p)
		if name == "" {
			continue
		}
		if isQuant(name, r.Quant) {
			models = append(models, name)
		}
		if q := quantOf(name); q != "" {
			there = append(there, q)
		}
	}
	slices.Sort(models)
	slices.Sort(there)
	models, there = slices.Compact(models), slices.Compact(there)
	exact := slices.DeleteFunc(slices.Clone(models), func(name string) bool {
		q := quantOf(name)
		return q != "" && !strings.EqualFold(q, r.Quant)
	})
	loose := len(exact) == 0
	if !loose {
		models = exact
	}
	switch len(models) {
	case 0:
		hint := "It has no GGUF file whose name ends with a quantisation: name a file."
		if len(there) > 0 {
			hint = "It has " + strings.Join(there[:min(len(there), 20)], ", ") + "."
		}
		return Choice{}, &NoChoice{Hint: hint,
			Problem: fmt.Sprintf("%s has no GGUF file of the quantisation %s", r.Repo, r.Quant)}
	case 1:
		return r.quantFiles(models[0], paths, loose)
	}
	return Choice{}, &NoChoice{Several: true, Hint: "Name the file.",
		Problem: fmt.Sprintf("%s has several models of the quantisation %s: %s", r.Repo, r.Quant,
			strings.Join(models[:min(len(models), 5)], ", "))}
}

// quantFiles returns the parts of a model.
func (r Ref) quantFiles(model string, paths []string, loose bool) (Choice, error) {
	first := ""
	for _, p := range paths {
		if modelName(p) == model && (first == "" || p < first) {
			first = p
		}
	}
	c, err := r.chooseFile(first, paths)
	c.Loose = loose && err == nil
	return c, err
}

// onlyModel returns the only model in GGUF of an artefact, or its first part; "" where there are
// several, or none.
func onlyModel(files []string) string {
	var models []string
	first := ""
	for _, f := range files {
		model := modelName(f)
		if model == "" || strings.HasPrefix(path.Base(f), "lora") {
			continue
		}
		if !slices.Contains(models, model) {
			models = append(models, model)
		}
		if first == "" || f < first {
			first = f
		}
	}
	if len(models) != 1 {
		return ""
	}
	return first
}

// Commit returns the name of the snapshot that a digest of a registry has in the cache: its first
// 40 digits, the length that tools expect of a commit; "" for a reference without a digest.
func (r Ref) Commit() string {
	if r.Scheme != OCI && r.Scheme != Image || r.Digest == "" {
		return ""
	}
	return CommitOf(r.Digest)
}

// CommitOf is Commit for a digest, "sha256:" and 64 digits.
func CommitOf(digest string) string { return strings.TrimPrefix(digest, "sha256:")[:40] }

// Branch returns what the reference is kept as in the directory refs of the cache, where it names
// no commit: the revision or the tag, and without one the source's usual.
func (r Ref) Branch() string {
	switch {
	case r.Revision != "":
		return r.Revision
	case r.Scheme == OCI, r.Scheme == Image:
		return "latest"
	}
	return "main"
}
