package lastwords

import (
	"os"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// corpus returns lines with the secret that each holds.
func corpus(tb testing.TB) map[string]string {
	tb.Helper()
	text, err := os.ReadFile("testdata/secrets.txt")
	if err != nil {
		tb.Fatal(err)
	}
	out := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		secret, log, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			tb.Fatalf("no tab in %q", line)
		}
		out[log] = secret
	}
	return out
}

func TestRedactHidesTheCorpus(t *testing.T) {
	for line, secret := range corpus(t) {
		if got := Redact(line); strings.Contains(got, secret) || !strings.Contains(got, hidden) || Redact(got) != got {
			t.Errorf("Redact(%q) = %q", line, got)
		}
	}
}

func TestRedactLeavesRemarks(t *testing.T) {
	for _, line := range []string{
		"password is required", "HF_TOKEN not set", "the token is invalid", `unexpected token "}" at byte 3`,
		"second pass of 3", "n_tokens: 512", "bypass=true", "signature verification failed", "compass: north",
	} {
		if got := Redact(line); got != line {
			t.Errorf("Redact(%q) = %q", line, got)
		}
	}
}

// FuzzRedact: any line is bounded, and the same when it is redacted again; a secret of the corpus
// behind any plain text is hidden.
func FuzzRedact(f *testing.F) {
	lines := corpus(f)
	for line := range lines {
		f.Add(line)
	}
	f.Add(`password="a" token='`)
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		once := Redact(text)
		if len(once) > 10*len(text)+16 {
			t.Errorf("%d bytes of %d", len(once), len(text))
		}
		if twice := Redact(once); twice != once {
			t.Errorf("%q, again %q", once, twice)
		}
		plain := strings.Map(func(r rune) rune {
			if r >= 'f' && r <= 'o' || r == ' ' { // letters that make no name of a secret
				return r
			}
			return -1
		}, text)
		for line, secret := range lines {
			if strings.HasPrefix(line, "MII") { // a line of base64 is known as a whole
				continue
			}
			if got := Redact(plain + " " + line); strings.Contains(got, secret) {
				t.Errorf("%q is shown: %q", secret, got)
			}
		}
	}))
}
