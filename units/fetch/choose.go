package fetch

import (
	"errors"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// choose returns the files that a reference means of all that its source has, and the path that an
// engine opens.
func choose(ref modelref.Ref, tree []*file) (chosen []*file, open string, err error) {
	byPath, paths := make(map[string]*file, len(tree)), make([]string, 0, len(tree))
	for _, f := range tree {
		byPath[f.path] = f
		paths = append(paths, f.path)
	}
	c, err := ref.Choose(paths)
	var no *modelref.NoChoice
	if errors.As(err, &no) {
		f := &Failure{Reason: wire.NotFound, Message: no.Problem, Hint: no.Hint}
		if no.Several {
			f.Reason = wire.BadRequest
		}
		return nil, "", f
	}
	for _, p := range c.Files {
		chosen = append(chosen, byPath[p])
	}
	return chosen, c.Open, nil
}
