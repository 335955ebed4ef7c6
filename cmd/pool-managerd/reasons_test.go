package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestReasonsAreComplete compares the closed lists with what the sources can count: a reason that
// is not listed would have no series before it is first counted.
func TestReasonsAreComplete(t *testing.T) {
	lists := countedReasons()
	for _, c := range []struct {
		file, pattern string
		listed        []string
	}{
		{"registry/api/leases.go", `reason, e = "(\w+)"`, lists.Leases},
		{"registry/api/caller.go", `\treturn "(\w+)"`, append(slices.Clone(lists.Denials), "localhost", "anonymous")},
		{"registry/api/middleware.go", `denied = (?:true, )?"(\w+)"`, lists.Denials},
		{"units/probe/probe.go", `\tReason\w+ += "(\w+)"`, lists.Probes},
		{"units/rollout/rollout.go", `\w+ +Reason += "(\w+)"`, lists.Reloads},
	} {
		source, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(c.file)))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(c.pattern).FindAllSubmatch(source, -1)
		if len(found) == 0 {
			t.Errorf("%s has nothing like %s", c.file, c.pattern)
		}
		for _, m := range found {
			if !slices.Contains(c.listed, string(m[1])) {
				t.Errorf("%s counts %q, which is not in the list", c.file, m[1])
			}
		}
	}
	for name, list := range map[string][]string{"restarts": lists.Restarts, "probes": lists.Probes,
		"reloads": lists.Reloads, "leases": lists.Leases, "denials": lists.Denials, "fetches": lists.Fetches} {
		if len(list) == 0 || len(list) > 14 {
			t.Errorf("%d %s, want at most 14: unknown and other are labels too", len(list), name)
		}
	}
}
