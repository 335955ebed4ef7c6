package supervise

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
)

// startsItself is what hints say about a pool that waits for something. A preload that failed does
// not wait: its pool is removed.
const startsItself = "he pool starts by itself"

// ofRequest is the failure of a pool as the answer to the request that preloaded it: nothing starts
// by itself, and what a pool file has is a field of the request.
func ofRequest(f *registry.Failure) *registry.Failure {
	hint := f.Hint
	if before, after, found := strings.Cut(hint, startsItself); found {
		rest := "."
		if end := strings.IndexAny(after, ".;"); end >= 0 {
			rest = after[end:]
		}
		before, begins := strings.CutSuffix(before, "T")
		switch {
		case begins:
			before += "Then send"
		default:
			before = strings.TrimSuffix(before, "; t") + ", and send"
		}
		hint = before + " the request again" + rest
	}
	hint = strings.ReplaceAll(hint, "[provisioning] binary", "binary_path")
	return registry.Fail(f.Code, f.Message, hint)
}
