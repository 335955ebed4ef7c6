package confine

import "testing"

// TestIsOption: a shortened option counts, and another one that begins alike does not.
func TestIsOption(t *testing.T) {
	for name, want := range map[string]bool{"--api-key": true, "--api-ke": true, "--api-": true, "--api": false,
		"--api-key-file": false, "--api-prefix": false, "-a": false, "": false} {
		if isOption(name, "--api-key") != want {
			t.Errorf("%q is taken for --api-key: %t", name, !want)
		}
	}
}
