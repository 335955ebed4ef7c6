package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShellsCompletion: each shell reads its file without a complaint, and offers by it what the
// program offers. A shell that is not installed is not tried: `make test` installs all three.
func TestShellsCompletion(t *testing.T) {
	h := newHost(t)
	h.fill()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nPOOLCTL_TYPED=1 exec " + self + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "poolctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		shell string
		check []string // reads the file $1 without running it
		offer string   // runs it, and prints what the words $2 complete to
	}{
		{"bash", []string{"-n"}, bashOffers},
		{"zsh", []string{"-f", "-n"}, zshOffers},
		{"fish", []string{"--no-config", "--no-execute"}, `source $argv[1]; complete -C "$argv[2]"`},
	} {
		t.Run(c.shell, func(t *testing.T) {
			if _, err := exec.LookPath(c.shell); err != nil {
				t.Skipf("no %s on this host", c.shell)
			}
			r := poolctl(t.Context(), "completion", c.shell)
			file := filepath.Join(dir, "_poolctl."+c.shell)
			if err := os.WriteFile(file, []byte(r.out), 0o644); err != nil || r.code != exitOK {
				t.Fatal(err, r.code)
			}
			out, err := exec.Command(c.shell, append(c.check, file)...).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, line := range []struct{ typed, want string }{
				{"poolctl lea", "leases"},
				{"poolctl list --sta", "--state"},
				{"poolctl --socket " + h.socket + " status ll", "llama3-8b"},
				{"poolctl --socket " + h.socket + " drain gemma ph", "phi"},
				{"poolctl list --state inv", "invalid"},
				{"poolctl events --kind cr", "crash"},
			} {
				options := []string{"-c", c.offer, c.shell, file, line.typed}
				if c.shell == "fish" {
					options = []string{"--no-config", "-c", c.offer, file, line.typed}
				}
				cmd := exec.Command(c.shell, options...)
				cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "TERM=dumb",
					"LC_ALL=C.UTF-8"}
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), line.want) || strings.Contains(string(out), "rror") {
					t.Errorf("%s: %v\n%s", line.typed, err, out)
				}
			}
		})
	}
}

// bashOffers does what bash does at a Tab, without the package bash-completion, of which one
// function is enough here.
const bashOffers = `_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}
words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
source "$1"
read -ra COMP_WORDS <<<"$2"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2; COMP_POINT=${#2}; COMP_TYPE=9
__start_poolctl
printf '%s\n' "${COMPREPLY[@]}"`

// zshOffers has the functions of zsh's completion print what they would offer.
const zshOffers = `compdef() { : }; _describe() { shift $#argv-1 2>/dev/null; print -l -- ${(P)argv[1]} }
_arguments() { : }; _files() { : }
typeset -a completions
source "$1"
words=(${=2}); CURRENT=$#words
_describe() { local a; for a in "$@"; do [[ $a = completions ]] && print -l -- $completions; done; true }
_poolctl`
