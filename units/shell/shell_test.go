package shell

import (
	"os/exec"
	"testing"
)

// TestQuote: a shell reads what was quoted, and nothing of it is a command.
func TestQuote(t *testing.T) {
	for _, text := range []string{"/srv/a.gguf", "", "two words", "it's", "$(id) `id` \"x\" \\ ; & |", "a\nb", "*"} {
		out, err := exec.Command("sh", "-c", "printf %s "+Quote(text)).Output()
		if err != nil || string(out) != text {
			t.Errorf("%q is read as %q (%v)", text, out, err)
		}
	}
}
