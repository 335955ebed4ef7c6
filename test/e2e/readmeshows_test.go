//go:build machine

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// shown is a command of a page, and what it prints there.
type shown struct {
	command string
	lines   []string
}

// shownIn are the commands behind a prompt in a section of README, in their order.
func shownIn(t *testing.T, heading string) (found []shown) {
	t.Helper()
	for line := range strings.Lines(readmeCommands(t, heading)) {
		line = strings.TrimSuffix(line, "\n")
		if command, is := strings.CutPrefix(line, "$ "); is {
			found = append(found, shown{command: command})
		} else if n := len(found); n > 0 {
			found[n-1].lines = append(found[n-1].lines, line)
		}
	}
	return found
}

// masks are what differs between two runs: process ids, ports, times, and the widths of columns.
var masks = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`(since) .*; .* ago`), "$1 T"},
	{regexp.MustCompile(`(MainPID=|Main PID: |Process: |└─)[0-9]+`), "${1}PID"},
	{regexp.MustCompile(`(127\.0\.0\.1:|--port )[0-9]+`), "${1}PORT"},
	{regexp.MustCompile(` +`), " "},
}

func maskedLine(line string) string {
	for _, m := range masks {
		line = m.re.ReplaceAllString(line, m.by)
	}
	return strings.TrimSpace(line)
}

// missing is the first line that an output does not have behind the one before; empty: it has all.
func missing(want []string, output string) string {
	var have []string
	for line := range strings.Lines(output) {
		have = append(have, maskedLine(line))
	}
	at := 0
	for _, line := range want {
		found := false
		for ; at < len(have) && !found; at++ {
			found = have[at] == maskedLine(line)
		}
		if !found {
			return line
		}
	}
	return ""
}

// killed is the process in README that is killed.
var killed = regexp.MustCompile(`^(kill .*) [0-9]+$`)

// TestReadmeShows runs each command of README's section on what it looks like, in its order, with
// the pool of the section on the installation, and each prints the lines that are shown there.
func TestReadmeShows(t *testing.T) {
	t.Parallel()
	_, file, found := strings.Cut(readmeCommands(t, "## Install it"), "tiny.toml <<'EOF'\n")
	file, _, ends := strings.Cut(file, "EOF\n")
	steps := shownIn(t, "## What it looks like")
	if !found || !ends || len(steps) < 8 {
		t.Fatalf("README has no pool file, or %d commands", len(steps))
	}
	h := installed(t, machine.Forky).in(t)
	h.pool("tiny", text(file))
	h.reload()
	h.wait("tiny", isReady)
	for _, s := range steps {
		command := killed.ReplaceAllString(s.command,
			"$1 $(systemctl show -P MainPID 'pool-engine@tiny.r0.service')")
		if len(s.lines) == 0 {
			h.shell(command)
			continue
		}
		var printed string
		ctx, cancel := h.within()
		err := host.Eventually(ctx, func(ctx context.Context) (err error) {
			if printed, err = h.Shell(ctx, "LC_ALL=C.UTF-8 SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 "+command); err != nil {
				return err
			}
			if line := missing(s.lines, printed); line != "" {
				return fmt.Errorf("no line %q", line)
			}
			return nil
		})
		cancel()
		t.Logf("$ %s\n%s", command, printed)
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// TestReadmeIsMasked: a line that is another one is missing, whatever is masked.
func TestReadmeIsMasked(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil || !strings.Contains(string(page), "Main PID: 142 (llama-server)") {
		t.Fatal("README shows another process", err)
	}
	for _, c := range []struct {
		want, have, lacks string
	}{
		{"Main PID: 142 (llama-server)", "   Main PID: 7 (llama-server)\n", ""},
		{"Main PID: 142 (llama-server)", "   Main PID: 7 (python)\n", "Main PID: 142 (llama-server)"},
		{"NRestarts=1", "NRestarts=2\n", "NRestarts=1"},
		{"tiny  ready  yes    2/2    1", "POOL\ntiny   ready   yes 2/2  1\n", ""},
	} {
		if got := missing([]string{c.want}, c.have); got != c.lacks {
			t.Errorf("%q in %q: %q", c.want, c.have, got)
		}
	}
}
