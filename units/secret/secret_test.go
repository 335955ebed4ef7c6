package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// TestKey: the key is the first line that is not empty and no comment; what is wrong with a file is
// reported without a word of it.
func TestKey(t *testing.T) {
	cases := []struct{ name, text, want, says string }{
		{"one_line", "sk-1\n", "sk-1", ""},
		{"no_newline", "sk-1", "sk-1", ""},
		{"the_first_of_several", "\n# ours\n  sk-1\r\nsk-2\n", "sk-1", ""},
		{"empty", "", "", "holds no key"},
		{"comments", "# sk-hidden\n\n", "", "holds no key"},
		{"two_words", "sk-hidden x\n", "", "more than one word"},
		{"another_script", "sk-hidden\u00e9\n", "", "characters that a header does not allow"},
		{"binary", "sk-hidden\x00\n", "", "characters that a header does not allow"},
		{"large", strings.Repeat("sk-hidden", limit), "", "at most"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Key(path)
			if got != c.want || (err == nil) != (c.says == "") {
				t.Fatalf("%q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hidden")) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	for name, path := range map[string]string{"missing": "/nowhere/key", "a_directory": t.TempDir(),
		"a_device": "/dev/zero"} {
		t.Run(name, func(t *testing.T) {
			if got, err := Key(path); err == nil {
				t.Errorf("a key: %q", got)
			}
		})
	}
}

// TestPadded: a key is what a line of the file is, without white space that no one sees.
func TestPadded(t *testing.T) {
	for text, want := range map[string]bool{"sk-1\n": false, "sk-1": false, "# ours \r\n\nsk-1\nsk-2\n": false,
		"sk-1\r\n": true, "sk-1 \n": true, " sk-1": true, "sk-1\n  # ours\n": true, "sk-1\n\t\n": true, "'sk-1'\n": false} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Padded(path); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if Padded("/nowhere/key") {
		t.Error("a missing file")
	}
}

// FuzzKey: a key fits into one header, and an error goes without a key.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{"sk-1\n", "# a\nsk", "a b", "\x00", "\r\n\r\nx"} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "key")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := Key(path)
		if (err == nil) != (key != "") || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q, %v", key, err)
		}
	}))
}
