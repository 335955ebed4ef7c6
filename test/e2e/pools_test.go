//go:build machine

package e2e

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// poolFile is a pool's TOML: keys first, then tables.
type poolFile struct {
	keys   []string
	tables []string
}

// String is the file.
func (p poolFile) String() string {
	return strings.Join(p.keys, "\n") + "\n" + strings.Join(p.tables, "\n") + "\n"
}

// with adds lines before the tables.
func (p poolFile) with(lines ...string) poolFile {
	p.keys = append(p.keys[:len(p.keys):len(p.keys)], lines...)
	return p
}

// table adds a table with its lines.
func (p poolFile) table(name string, lines ...string) poolFile {
	p.tables = append(p.tables[:len(p.tables):len(p.tables)], "["+name+"]\n"+strings.Join(lines, "\n"))
	return p
}

// quick makes the times of a pool short enough for a test: probes and restarts follow within a
// fraction of a second, and crashes that a test asks for do not add up to a crash loop.
func (p poolFile) quick() poolFile {
	return p.table("health", `interval = "500ms"`, `timeout = "500ms"`, `failures = 2`, `successes = 2`).
		table("restart", `initial = "300ms"`, `max = "1s"`, `jitter = 0.0`, `breaker_failures = 50`)
}

// llama is a pool of the real llama-server on the CPU with the generated model.
func llama() poolFile {
	return poolFile{keys: []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`, `devices = []`,
		`ctx = 128`, `slots = 2`}}
}

// stub is a pool of engine "llamacpp" that runs the stand-in engine with further arguments.
func stub(args ...string) poolFile {
	return poolFile{
		keys: []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`, `devices = []`,
			arguments(args)},
		tables: []string{"[provisioning]\nbinary = \"" + host.StubEngine + "\""},
	}
}

// command is a pool of engine "command" that runs the stand-in engine with further arguments.
func command(args ...string) poolFile {
	return poolFile{
		keys: []string{`engine = "command"`, `devices = []`,
			arguments(append([]string{"--port", "{port}"}, args...))},
		tables: []string{"[provisioning]\nbinary = \"" + host.StubEngine + "\""},
	}
}

func arguments(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = fmt.Sprintf("%q", a)
	}
	return "args = [" + strings.Join(quoted, ", ") + "]"
}

// text is a literal pool file.
type text string

func (f text) String() string { return string(f) }
