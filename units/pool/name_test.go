package pool

import (
	"strings"
	"testing"
)

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "0": true, "llama3": true, "llama-3.1_8b": true, "a.": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, ".a": false, "_a": false, "A": false, "aB": false, "a b": false, "a/b": false,
		"a@b": false, "a\n": false, "é": false, "a\x00": false, strings.Repeat("a", 64): false,
	} {
		if got := ValidID(id); got != want {
			t.Errorf("ValidID(%q) = %t, want %t", id, got, want)
		}
	}
}
