package fetch

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// TestParseStoreKeys: the file that the tools of object stores keep is read as they read it.
func TestParseStoreKeys(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want StoreKeys // zero: refused
	}{
		"a_profile":             {"[default]\naws_access_key_id = AKIA\naws_secret_access_key = a/b+c=\n", StoreKeys{"AKIA", "a/b+c=", ""}},
		"with_a_session":        {"[default]\naws_access_key_id=A\naws_secret_access_key=S\naws_session_token=T==", StoreKeys{"A", "S", "T=="}},
		"without_a_profile":     {"aws_access_key_id=A\r\naws_secret_access_key=S\r\n", StoreKeys{"A", "S", ""}},
		"among_others":          {"[work]\naws_access_key_id=X\naws_secret_access_key=Y\n\n[default]\n# ours\naws_access_key_id=A\naws_secret_access_key=S\n[z]\naws_access_key_id=Z\n", StoreKeys{"A", "S", ""}},
		"another_profile_alone": {"[work]\naws_access_key_id=X\naws_secret_access_key=Y\n", StoreKeys{}},
		"one_half":              {"[default]\naws_access_key_id=X\n", StoreKeys{}},
		"nothing":               {"", StoreKeys{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseStoreKeys(c.text)
			if got != c.want || (err == nil) != (c.want != StoreKeys{}) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// FuzzParseStoreKeys: a key has one line, and both halves are there or none.
func FuzzParseStoreKeys(f *testing.F) {
	f.Add("[default]\naws_access_key_id = AKIA\naws_secret_access_key = s\n; x\n[work]\n=\n")
	f.Add("[\naws_access_key_id\n")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		k, err := ParseStoreKeys(text)
		if (err == nil) != (k.Access != "" && k.Secret != "") || strings.Contains(k.Access+k.Secret+k.Session, "\n") {
			t.Errorf("%q: %+v, %v", text, k, err)
		}
	}))
}
