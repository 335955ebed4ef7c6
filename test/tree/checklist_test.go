package tree

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
	"testing"
)

const checklist = "docs/CHECKLIST.md"

// A test is named in the checklist as `folder: TestName` or `folder: TestName/case`.
var namedTest = regexp.MustCompile("`([a-z0-9/_-]+): ((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]*)((?:/[^`]+)?)`")

var isTest = regexp.MustCompile("^(?:Test|Fuzz|Benchmark)")

// TestChecklist: every promise names a test, and every named test exists.
func TestChecklist(t *testing.T) {
	t.Parallel()
	known := tests(t)
	for n, line := range strings.Split(read(t, checklist), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| promise") || strings.HasPrefix(line, "| ---") {
			continue
		}
		named := namedTest.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("%s:%d: no test for this promise: %s", checklist, n+1, line)
		}
		for _, m := range named {
			if reason := missing(known, m[1], m[2], strings.TrimPrefix(m[3], "/")); reason != "" {
				t.Errorf("%s:%d: %s", checklist, n+1, reason)
			}
		}
	}
}

// TestPagesNameTestsThatExist: a test that another page names as its proof exists too.
func TestPagesNameTestsThatExist(t *testing.T) {
	t.Parallel()
	known := tests(t)
	named := 0
	pages := files(t, func(p string) bool {
		return strings.HasPrefix(p, "docs/") && path.Ext(p) == ".md" && p != checklist
	})
	for _, page := range pages {
		for n, line := range strings.Split(read(t, page), "\n") {
			for _, m := range namedTest.FindAllStringSubmatch(line, -1) {
				named++
				if reason := missing(known, m[1], m[2], strings.TrimPrefix(m[3], "/")); reason != "" {
					t.Errorf("%s:%d: %s", page, n+1, reason)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d names of tests were found", named)
	}
}

// missing returns what is wrong with the name of a test, "" when it exists.
func missing(known map[string]string, folder, test, subtest string) string {
	source, ok := known[folder+": "+test]
	if !ok {
		return "there is no " + test + " in " + folder
	}
	// The name of a case is somewhere in the folder's tests: as a literal in a table or in a call
	// of Run, or as a golden file.
	for part := range strings.SplitSeq(subtest, "/") {
		if part != "" && !strings.Contains(source, part) {
			return test + " in " + folder + " has no case " + part
		}
	}
	return ""
}

// tests returns the source of each folder's tests by "folder: TestName", with any build tags they
// have. The names of files under testdata count as source.
func tests(t *testing.T) map[string]string {
	t.Helper()
	source := make(map[string]string)
	names := make(map[string][]string)
	for _, f := range goFiles(t) {
		if !f.Test() {
			continue
		}
		source[f.Dir] += read(t, f.Path)
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && isTest.MatchString(fn.Name.Name) && fn.Name.Name != "TestMain" {
				names[f.Dir] = append(names[f.Dir], fn.Name.Name)
			}
		}
	}
	for _, file := range files(t, func(p string) bool { return strings.Contains(p, "/testdata/") }) {
		dir, _, _ := strings.Cut(file, "/testdata/")
		source[dir] += "\n" + path.Base(file)
	}
	known := make(map[string]string)
	for dir, list := range names {
		for _, name := range list {
			known[dir+": "+name] = source[dir]
		}
	}
	return known
}
