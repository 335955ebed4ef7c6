package registry

import (
	"errors"
	"fmt"
	"testing"
)

func TestAsFailure(t *testing.T) {
	inner := Fail(CodeModelNotFound, "/srv/m.gguf: no such file", "copy it there")
	cases := []struct {
		name string
		err  error
		want string
		hint string
	}{
		{"nil_stays_nil", nil, "", ""},
		{"wrapped", fmt.Errorf("stage: %w", inner), "MODEL_NOT_FOUND: /srv/m.gguf: no such file", "copy it there"},
		{"any_other_error_gets_the_fallback", errors.New("no space left"), "PROVISION_FAILED: no space left", "free some"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := AsFailure(c.err, CodeProvisionFailed, "free some")
			if f == nil {
				if c.want != "" {
					t.Fatalf("AsFailure = nil, want %s", c.want)
				}
				return
			}
			if f.Error() != c.want || f.Hint != c.hint {
				t.Errorf("AsFailure = %s (%s), want %s (%s)", f, f.Hint, c.want, c.hint)
			}
		})
	}
}
