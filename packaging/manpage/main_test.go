package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/docs"
	"github.com/pool-managerd/pool-managerd/registry"
)

func TestManual(t *testing.T) {
	const source = "<!-- Written by x. -->\n# Title\n\nA *word*, **two words** and `--flag`;\n" +
		".dot at the start, a [page](states.md#x).\n\n" +
		"## The table\n\n| symptom | code | do |\n| --- | --- | --- |\n" +
		"| it ends | `A_B` | run `poolctl logs` \\| wait |\n\n" +
		"- one\n  goes on\n- 'two'\n\n    $ poolctl \\x\n    .end\n"
	const want = `.TH POOL-X 7 "" "pool-managerd"
.nh
.ad l
.SH NAME
pool-x \- what it is
.SH DESCRIPTION
.PP
A \fIword\fP, \fBtwo words\fP and \fB\-\-flag\fP; .dot at the start, a page (states.md).
.SH THE TABLE
.TP
\fBA_B\fP
\fIsymptom\fP: it ends
.br
\fIdo\fP: run \fBpoolctl logs\fP | wait
.br
.IP \(bu 3
one goes on
.IP \(bu 3
\&'two'
.PP
.RS
.nf
$ poolctl \ex
\&.end
.fi
.RE
.SH SEE ALSO
.BR poolctl (1),
.BR pool\-file (5),
.BR pool\-managerd (8),
/usr/share/doc/pool-managerd
`
	if got := manual("pool-x", "7", "what it is", source); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// pages are those that packaging/stage makes.
func pages() map[string]string {
	return map[string]string{"failures": "../../docs/failures.md", "states": "../../docs/reference/states.md",
		"metrics": "../../docs/reference/metrics.md", "sandbox": "../../docs/sandbox.md",
		"log": "../../docs/reference/log.md"}
}

// TestPages: each page of the package formats without a warning, and the package makes it.
func TestPages(t *testing.T) {
	stage, err := os.ReadFile("../stage")
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range pages() {
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(stage), "manpage "+name+" "+strings.TrimPrefix(file, "../../docs/")+" ") {
				t.Errorf("packaging/stage does not make it of %s", file)
			}
			roff := manual("pool-managerd-"+name, "7", "a title", string(source))
			if strings.Contains(roff, "](") || strings.Contains(roff, "| ---") {
				t.Errorf("Markdown is left:\n%s", roff)
			}
			groff, err := exec.LookPath("groff")
			if err != nil {
				t.Skip("groff is not installed")
			}
			cmd := exec.Command(groff, "-k", "-man", "-ww", "-Tutf8", "-rLL=100n")
			cmd.Stdin = strings.NewReader(roff)
			var complaints bytes.Buffer
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			if err != nil || complaints.Len() > 0 || len(out) < len(source)/2 {
				t.Errorf("groff: %v, %d bytes of %d\n%s", err, len(out), len(source), complaints.String())
			}
		})
	}
}

// TestEveryCodeAndStateIsFound: man -K looks for words in the sources of pages.
func TestEveryCodeAndStateIsFound(t *testing.T) {
	failures := manual("x", "7", "x", docs.Failures)
	codes := regexp.MustCompile("(?m)^\\| .* \\| `([A-Z][A-Z0-9_]+)` \\| ").FindAllStringSubmatch(docs.Failures, -1)
	if len(codes) < 20 { // registry has a test that its codes are all there
		t.Fatalf("%d codes", len(codes))
	}
	for _, c := range codes {
		if !strings.Contains(failures, ".TP\n\\fB"+c[1]+"\\fP\n") {
			t.Errorf("no entry for %s", c[1])
		}
	}
	source, err := os.ReadFile(pages()["states"])
	if err != nil {
		t.Fatal(err)
	}
	states := manual("x", "7", "x", string(source))
	for _, s := range registry.States() {
		if !strings.Contains(states, ".TP\n\\fB"+string(s)+"\\fP\n") {
			t.Errorf("no entry for %s", s)
		}
	}
}
