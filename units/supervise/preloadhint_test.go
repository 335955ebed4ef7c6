package supervise

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestHintsOfRequests: a pool that was preloaded and failed is removed. Its hint neither promises
// that it starts by itself nor names keys of a pool file.
func TestHintsOfRequests(t *testing.T) {
	for hint, want := range map[string]string{
		"Copy the model there; the pool starts by itself once it is. There is a.gguf.":          "Copy the model there, and send the request again. There is a.gguf.",
		"Copy it there; the pool starts by itself once it is.":                                  "Copy it there, and send the request again.",
		"Copy the missing parts; the pool starts by itself once they are there.":                "Copy the missing parts, and send the request again.",
		"Use a smaller model. The pool starts by itself when there is enough; x starts it now.": "Use a smaller model. Then send the request again; x starts it now.",
		"Correct [provisioning] binary.":                                                        "Correct binary_path.",
		"chmod o+rx '/opt/a'":                                                                   "chmod o+rx '/opt/a'",
		"":                                                                                      "",
	} {
		got := ofRequest(registry.Fail(registry.CodeModelNotFound, "m", hint))
		if got.Hint != want || got.Code != registry.CodeModelNotFound || got.Message != "m" {
			t.Errorf("%q becomes %+v, want %q", hint, got, want)
		}
	}
}
