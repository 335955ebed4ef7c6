package bring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// PartName is how llama.cpp names the parts of a model (llama_split_path: "%s-%05d-of-%05d.gguf").
var PartName = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)$`)

// maxNamed is how many missing parts a message names.
const maxNamed = 5

// Parts returns every part of the model that a path belongs to; a model in one file is its own only
// part. The error is a *registry.Failure.
func Parts(path string) ([]string, error) {
	m := PartName.FindStringSubmatch(filepath.Base(path))
	if m == nil || m[3] == "00000" {
		return []string{path}, nil
	}
	count, _ := strconv.Atoi(m[3])
	if m[2] != "00001" {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s is part %s of %s; the engine needs the first part", path, m[2], m[3]),
			fmt.Sprintf("Name %s-00001-of-%s%s: ls -l %s", m[1], m[3], m[4], shell.Quote(filepath.Dir(path))))
	}
	var paths, missing []string
	for i := 1; i <= count; i++ {
		part := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%s%s", m[1], i, m[3], m[4]))
		if _, err := os.Stat(part); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, filepath.Base(part))
			continue
		}
		paths = append(paths, part)
	}
	if wrong, right := inOtherCase(filepath.Dir(path), missing); wrong != "" {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s: its part %s is called %s, and the engine looks for the first", path, right, wrong),
			"Rename each such part: mv -n "+shell.Quote(filepath.Join(filepath.Dir(path), wrong))+" "+
				shell.Quote(filepath.Join(filepath.Dir(path), right)))
	}
	if len(missing) > 0 {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s: %d of its %d parts are missing: %s", path, len(missing), count, Few(missing)),
			"Copy the missing parts into the same folder; the pool starts by itself once they are there. It has: "+
				"ls -l "+shell.Quote(filepath.Dir(path)))
	}
	return paths, nil
}

// inOtherCase returns the first of the names that a folder has with other capitals or small letters
// alone, and how it has it.
func inOtherCase(dir string, names []string) (has, name string) {
	if len(names) == 0 {
		return "", ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", ""
	}
	for _, name := range names {
		for _, e := range entries {
			if strings.EqualFold(e.Name(), name) {
				return e.Name(), name
			}
		}
	}
	return "", ""
}

// Few lists the first of the names.
func Few(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}
