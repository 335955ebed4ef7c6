package page

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
)

func load(t *testing.T) Files {
	t.Helper()
	files, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if files[Index] == nil || len(files) < 10 {
		t.Fatalf("%d files", len(files))
	}
	return files
}

// TestWeight: the page is small enough for a slow line, all files together and uncompressed.
func TestWeight(t *testing.T) {
	const most = 150_000
	total := 0
	for _, f := range load(t) {
		total += len(f.body)
	}
	if total > most {
		t.Errorf("the page has %d bytes, more than %d", total, most)
	}
}

// vendored are the files of uPlot 1.6.32 as its package of the npm registry has them, by their
// SHA-256 (docs/dependencies.md).
var vendored = map[string]string{
	"uplot.js":          "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
	"uplot.css":         "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
	"uplot-license.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}

func TestVendored(t *testing.T) {
	files := load(t)
	for name, want := range vendored {
		if files[name] == nil {
			t.Fatalf("%s is not there", name)
		}
		sum := sha256.Sum256(files[name].body)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s is not the file of its version: %s", name, got)
		}
	}
	if !strings.Contains(string(files["uplot.js"].body), "(v1.6.32)") {
		t.Error("uplot.js is of another version")
	}
}

// forbidden are what a file of ours never has: the policy would refuse it, or a text could become
// HTML by it.
var forbidden = map[string]*regexp.Regexp{
	".html": regexp.MustCompile(`(?i)<script(?:\s+(?:type="module"|defer))*\s*>|<style|\sstyle=|\son[a-z]+=|<iframe|javascript:|//[a-z]`),
	".css":  regexp.MustCompile(`(?i)url\(|@import|expression\(`),
	".js": regexp.MustCompile(`\.(?:innerHTML|outerHTML|insertAdjacentHTML|srcdoc)\b|document\.write|\beval\(|new Function|` +
		`setTimeout\(["'` + "`" + `]|localStorage|document\.cookie|https?://`),
	".svg": regexp.MustCompile(`(?i)<script|\son[a-z]+=|href`),
}

// TestNothingFromOutside: no script or style in the HTML, nothing of another host, and no way from
// a text to HTML.
func TestNothingFromOutside(t *testing.T) {
	for name, f := range load(t) {
		rule := forbidden[path.Ext(name)]
		if vendored[name] != "" || rule == nil {
			continue
		}
		if found := rule.FindString(string(f.body)); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
	for kind, bad := range map[string]string{".html": `<p onclick="x()">`, ".css": "url(x)", ".js": "e.innerHTML = x", ".svg": "<script>"} {
		if !forbidden[kind].MatchString(bad) {
			t.Errorf("the rule for %s does not find %s", kind, bad)
		}
	}
}

// TestEachFileIsUsed: the HTML and the scripts name each file, and only files that exist.
func TestEachFileIsUsed(t *testing.T) {
	files := load(t)
	used := map[string]bool{Index: true, "uplot-license.txt": true}
	named := regexp.MustCompile(`"(?:/page|\.)/([a-z.-]+)"`)
	for name, f := range files {
		if vendored[name] != "" {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(string(f.body), -1) {
			used[m[1]] = true
			if files[m[1]] == nil {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
	for name := range files {
		if !used[name] {
			t.Errorf("nothing names %s", name)
		}
	}
}

// TestScriptsAreReadable: a script of ours is no longer than a file of Go may be, and no wider than
// a row of a table.
func TestScriptsAreReadable(t *testing.T) {
	for name, f := range load(t) {
		if vendored[name] != "" {
			continue
		}
		lines := strings.Split(string(f.body), "\n")
		if len(lines) > 400 {
			t.Errorf("%s has %d lines", name, len(lines))
		}
		for i, line := range lines {
			if len([]rune(line)) > 200 {
				t.Errorf("%s has %d columns", fmt.Sprintf("%s:%d", name, i+1), len([]rune(line)))
			}
		}
	}
}

// TestPolicy: everything is forbidden that is not named, and no name is a host or an exception.
func TestPolicy(t *testing.T) {
	directives := map[string]string{}
	for d := range strings.SplitSeq(Policy, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), " ")
		directives[name] = value
	}
	for name, want := range map[string]string{"default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
		"connect-src": "'self'", "img-src": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
		"form-action": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'"} {
		if directives[name] != want {
			t.Errorf("%s is %q, want %q", name, directives[name], want)
		}
		delete(directives, name)
	}
	if len(directives) > 0 {
		t.Errorf("the policy has more: %v", directives)
	}
}
