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

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
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

// ModelFile checks one file of a model: a regular one that the engine's user can read. That user is
// dynamic and in no group, so that only the mode for others counts. The directories above do not
// matter to it: PID 1 binds the file itself into the engine's view.
func ModelFile(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, NoModel(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s is not a regular file (%s)", path, info.Mode().Type()),
			"Name the file that holds the weights: ls -ld "+shell.Quote(path))
	}
	if info.Mode().Perm()&0o004 == 0 {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s has mode %04o: the engine runs as a dynamic user, which cannot read it%s", path,
				info.Mode().Perm(), listed(path)),
			"The engine sees only this file: chmod o+r "+shell.Quote(path))
	}
	return info, nil
}

// listed continues the message about a file that has an access control list: people who wrote one
// believe that it is enough.
func listed(path string) string {
	if n, err := unix.Getxattr(path, "system.posix_acl_access", nil); err != nil || n == 0 {
		return ""
	}
	return "; its access control list does not help, since that user has no name before the start"
}

// UnusableModel is why a path that exists is no model for an engine that loads such weights, as far
// as one look at it shows; nil: it may be one.
func UnusableModel(path string, by engine.Weights, kind string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		if by == engine.GGUF {
			return NoFile(path, kind)
		}
		return nil
	}
	parts, err := Parts(path)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if info, err = ModelFile(part); err != nil {
			return err
		}
		if flaw := Damaged(part, info.Size(), by); flaw != nil {
			return registry.Fail(registry.CodeProvisionFailed, "model "+part+" "+flaw.Text, flaw.Hint)
		}
	}
	return nil
}

// NoFile is the failure of a directory where an engine loads a file.
func NoFile(path, kind string) *registry.Failure {
	return registry.Fail(registry.CodeModelNotFound,
		fmt.Sprintf("model %s is a directory; engine %q loads a file", path, kind),
		"Name the .gguf file in it; of a model in parts, the first part."+
			Suggestion(filepath.Join(path, "x.gguf"))+" All of them: find "+shell.Quote(path)+" -name '*.gguf'")
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
