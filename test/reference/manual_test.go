package reference

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// TestDifferences: a page with another default than the key's, or without it, is found.
func TestDifferences(t *testing.T) {
	const page = `.Sh KEYS
.It Ic right
Of one kind.
Default:
.Ql \(dq5s\(dq .
.It Ic wrong
Default: 3.
.It Ic silent
Something.
.It Ic words
Default: 7.
.It Ic said
true or false, the default.
.El
.Ss [table]
.It Ic a , b
Default: 10 within
.Ql \(dq1m\(dq .
.El
`
	keys := []strict.Key[struct{}]{
		{Path: "right", Default: `"5s"`}, {Path: "wrong", Default: "2"}, {Path: "silent", Default: "true"},
		{Path: "words", Default: "no limit"}, {Path: "said", Default: "false"}, {Path: "absent", Default: "1"},
		{Path: "table.a", Default: "10"}, {Path: "table.b", Default: `"1m"`},
	}
	got := Differences(page, keys)
	if len(got) != 3 || !strings.HasPrefix(got[0], "wrong: ") || !strings.HasPrefix(got[1], "silent: ") ||
		!strings.HasPrefix(got[2], "words: ") {
		t.Errorf("%q", got)
	}
}
