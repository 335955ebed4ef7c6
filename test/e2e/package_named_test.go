//go:build machine

package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedPath = regexp.MustCompile(`/(?:usr|etc)/[A-Za-z0-9_./@-]*pool[A-Za-z0-9_./@-]*`)
	namedPage = regexp.MustCompile(`\b(pool[a-z.-]*)(?:\(([1-8])\)|[ ]([1-8])\b)`)
	goComment = regexp.MustCompile(`(?m)^\s*//.*$`)
)

// notPackaged are named paths that an administrator or systemctl enable makes.
var notPackaged = regexp.MustCompile(`^/etc/(pool-managerd/(token|fleet/[a-z0-9.-]+|pools\.d/[A-Za-z0-9.-]+)|systemd/system/[a-z.-]+\.wants/.*)$`)

// TestPackageHoldsWhatItNames: each file of the product's own, and each of its manual pages, that a
// message, a unit or a manual page names is in the package.
func TestPackageHoldsWhatItNames(t *testing.T) {
	if err := machines.artifacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	held := packageFiles(t, machines.parts.Deb)
	for _, must := range []string{"/usr/share/doc/pool-managerd/openapi.yaml",
		"/usr/share/doc/pool-managerd/admin-guide.md", "/usr/share/doc/pool-managerd/reference/pool-file.md"} {
		if !held[must] {
			t.Errorf("the package has no %s", must)
		}
	}
	names := 0
	for _, file := range namingFiles(t) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if filepath.Ext(file) == ".go" {
			text = goComment.ReplaceAllString(text, "")
		}
		for _, path := range namedPath.FindAllString(text, -1) {
			names++
			if path = strings.TrimRight(path, "./"); !held[path] && !notPackaged.MatchString(path) {
				t.Errorf("%s names %s, which is not in the package", file, path)
			}
		}
		for _, m := range namedPage.FindAllStringSubmatch(text, -1) {
			names++
			if section := m[2] + m[3]; !held["/usr/share/man/man"+section+"/"+m[1]+"."+section+".gz"] {
				t.Errorf("%s names the page %s, which is not in the package", file, m[0])
			}
		}
	}
	if names < 50 {
		t.Errorf("%d names found: the test looks in the wrong place", names)
	}
}

// packageFiles lists what a package installs, directories included.
func packageFiles(t *testing.T, deb string) map[string]bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--contents", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	held := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		held[strings.TrimSuffix(strings.TrimPrefix(fields[5], "."), "/")] = true
	}
	return held
}

// namingFiles are the sources of what an administrator reads.
func namingFiles(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, dir := range []string{"cmd", "units", "systemd", "registry", "nvml", "cgroups", "packaging/systemd",
		"packaging/etc", "packaging/scripts", "docs/man"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") {
				return err
			}
			found = append(found, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
