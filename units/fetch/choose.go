package fetch

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// shardForm is how llama.cpp and transformers name the parts of a model (llama_split_path).
var shardForm = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)$`)

// choose returns the files of a repository that a reference means, and the path that an engine
// opens: a named file with all parts that belong to it, the GGUF files of a quantisation, or all.
func choose(ref modelref.Ref, tree []*file) (chosen []*file, open string, err error) {
	switch {
	case ref.Quant != "":
		return chooseQuant(ref, tree)
	case ref.Path != "":
		return chooseFile(ref, tree)
	case len(tree) == 0:
		return nil, "", &Failure{Reason: wire.NotFound, Message: ref.Repo + " has no files",
			Hint: "Check the repository and the revision."}
	}
	return tree, "", nil
}

func chooseFile(ref modelref.Ref, tree []*file) ([]*file, string, error) {
	byPath := make(map[string]*file, len(tree))
	for _, f := range tree {
		byPath[f.path] = f
	}
	if byPath[ref.Path] == nil {
		return nil, "", &Failure{Reason: wire.NotFound, Message: fmt.Sprintf("%s has no file %s", ref.Repo, ref.Path),
			Hint: "Check its name, with upper and lower case."}
	}
	parts := partsOf(ref.Path)
	var chosen []*file
	for _, name := range parts {
		f := byPath[name]
		if f == nil {
			return nil, "", &Failure{Reason: wire.NotFound,
				Message: fmt.Sprintf("%s has %s and not %s, without which it is incomplete", ref.Repo, ref.Path, name),
				Hint:    "Name another revision, or report it to the owner of the repository."}
		}
		chosen = append(chosen, f)
	}
	return chosen, parts[0], nil
}

// partsOf returns the names of all parts of the model that a file is a part of.
func partsOf(name string) []string {
	m := shardForm.FindStringSubmatch(name)
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
var quantForm = regexp.MustCompile(`(?i)(?:^|[-._])((?:UD-)?(?:I?Q[0-9]|TQ[0-9]|BF16|F16|F32|MXFP4)[A-Z0-9_]*)$`)

// modelName returns the name of a GGUF file without what its parts differ in; "" for other files
// and for what accompanies a model (llama.cpp: mmproj, imatrix).
func modelName(name string) string {
	base := path.Base(name)
	if !strings.HasSuffix(base, ".gguf") || strings.HasPrefix(base, "mmproj") || strings.Contains(base, "imatrix") {
		return ""
	}
	if m := shardForm.FindStringSubmatch(name); m != nil {
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

func chooseQuant(ref modelref.Ref, tree []*file) ([]*file, string, error) {
	var models, there []string
	for _, f := range tree {
		name := modelName(f.path)
		if name == "" {
			continue
		}
		if isQuant(name, ref.Quant) {
			models = append(models, name)
		}
		if m := quantForm.FindStringSubmatch(path.Base(name)); m != nil {
			there = append(there, m[1])
		}
	}
	slices.Sort(models)
	slices.Sort(there)
	models, there = slices.Compact(models), slices.Compact(there)
	// "Q4_K_M" also ends "UD-Q4_K_M": the exact one is meant, if there is one.
	if exact := slices.DeleteFunc(slices.Clone(models), func(name string) bool {
		m := quantForm.FindStringSubmatch(path.Base(name))
		return m != nil && !strings.EqualFold(m[1], ref.Quant)
	}); len(exact) > 0 {
		models = exact
	}
	switch len(models) {
	case 0:
		hint := "It has no GGUF file whose name ends with a quantisation: name a file."
		if len(there) > 0 {
			hint = "It has " + strings.Join(there[:min(len(there), 20)], ", ") + "."
		}
		return nil, "", &Failure{Reason: wire.NotFound, Hint: hint,
			Message: fmt.Sprintf("%s has no GGUF file of the quantisation %s", ref.Repo, ref.Quant)}
	case 1:
		return quantFiles(ref, tree, models[0])
	}
	return nil, "", &Failure{Reason: wire.BadRequest,
		Message: fmt.Sprintf("%s has several models of the quantisation %s: %s", ref.Repo, ref.Quant,
			strings.Join(models[:min(len(models), 5)], ", ")),
		Hint: "Name the file."}
}

// quantFiles returns the parts of a model.
func quantFiles(ref modelref.Ref, tree []*file, model string) ([]*file, string, error) {
	parts := slices.DeleteFunc(slices.Clone(tree), func(f *file) bool { return modelName(f.path) != model })
	first := slices.MinFunc(parts, func(a, b *file) int { return cmp.Compare(a.path, b.path) })
	ref.Path = first.path
	return chooseFile(ref, tree)
}
