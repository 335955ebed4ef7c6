package bring

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// NoModel explains why a model's path could not be looked at.
func NoModel(path string, err error) *registry.Failure {
	if errors.Is(err, fs.ErrPermission) {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s: the manager cannot enter %s", path, ClosedAbove(path)),
			"The manager is root without capabilities. Move the model to /srv/models, or let others enter the folder: "+
				"chmod o+x "+shell.Quote(ClosedAbove(path)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s: %v", path, Cause(err)),
			"Name a file that can be read: namei -l "+shell.Quote(path))
	}
	hint := "Copy the model there; the pool starts by itself once it is." + Suggestion(path) +
		" This shows the path: namei -l " + shell.Quote(path)
	if link, err := os.Readlink(path); err == nil {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s is a symbolic link to %s, which does not exist", path, link), hint)
	}
	if above := Nearest(path); above != filepath.Dir(path) {
		return registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s does not exist; the path exists only up to %s", path, above), hint)
	}
	return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s does not exist", path), hint)
}

// maxSuggestions is how many names a hint may hold, and maxListed how many of a folder are looked
// at for it.
const (
	maxSuggestions = 3
	maxListed      = 1000
)

// Suggestion names up to three files of the same kind in the folder, those with the most similar
// names first.
func Suggestion(path string) string {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return ""
	}
	defer dir.Close()
	listed, _ := dir.Readdirnames(maxListed)
	slices.Sort(listed)
	var names []string
	for _, name := range listed {
		if filepath.Ext(name) == filepath.Ext(path) && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	wanted := filepath.Base(path)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(likeness(wanted, b), likeness(wanted, a)) })
	return " There is " + strings.Join(names[:min(len(names), maxSuggestions)], ", ") + "."
}

// likeness counts the pairs of neighbouring characters that two names share, without regard to
// case: model names are made of the same words in another order, which an edit distance does not
// see.
func likeness(a, b string) int {
	pairs := make(map[string]int)
	a, b = strings.ToLower(a), strings.ToLower(b)
	for i := range len(a) - 1 {
		pairs[a[i:i+2]]++
	}
	shared := 0
	for i := range len(b) - 1 {
		if pairs[b[i:i+2]] > 0 {
			pairs[b[i:i+2]]--
			shared++
		}
	}
	return 2*shared - len(b) // of two names that share as much, the shorter is nearer
}

// Cause is an error without the operation and the path that os puts before it: the sentence around
// it has them.
func Cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
