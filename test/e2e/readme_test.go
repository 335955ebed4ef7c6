//go:build machine

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestReadmeInstalls runs the commands of README's section on the installation, word for word, on a
// machine without the package, and the pool of it gets ready. Only the build and the installation
// by apt, which needs a mirror, are replaced.
func TestReadmeInstalls(t *testing.T) {
	t.Parallel()
	script := readmeCommands(t, "## Install it")
	for _, must := range []string{"make deb", "apt install", "config.toml", "poolctl check && systemctl reload"} {
		if !strings.Contains(script, must) {
			t.Fatalf("the section has no %q: the test looks in the wrong place:\n%s", must, script)
		}
	}
	var run []string
	for line := range strings.Lines(script) {
		switch {
		case strings.HasPrefix(line, "make "):
		case strings.HasPrefix(line, "apt install "):
			run = append(run, "dpkg --install /root/this.deb\n")
		default:
			run = append(run, line)
		}
	}
	p := packageMachine(t, machine.Config{Release: machine.Forky, Files: machines.modelFile(t)})
	p.MustShell(t, "set -e\n"+strings.Join(run, ""))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		pool, err := p.host.Pool(ctx, "tiny")
		if err == nil && !pool.Ready {
			err = fmt.Errorf("not ready: %s", pool)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// readmeCommands returns the indented lines of a section of README.md.
func readmeCommands(t *testing.T, heading string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(content), "\n"+heading+"\n")
	if !found {
		t.Fatalf("README.md has no %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var commands strings.Builder
	for line := range strings.Lines(section) {
		if command, indented := strings.CutPrefix(line, "    "); indented {
			commands.WriteString(command)
		}
	}
	return commands.String()
}

// modelFile is the generated model, where the pools of README and the tests look for it.
func (p *park) modelFile(t *testing.T) []machine.File {
	t.Helper()
	if err := p.artifacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	return []machine.File{{Guest: host.TinyModel, Host: p.parts.Model, Mode: 0o644}}
}
