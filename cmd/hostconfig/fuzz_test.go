package hostconfig

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzParse: any config.toml is good, or has problems that name the file and what is wrong; a
// second reading finds the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte("require_gpu = false\nauth_optional = true\n"))
	f.Add([]byte("port_range = [1, 70000]\n[log]\nlevel = 7\n"))
	f.Add([]byte("[policy]\negress = [\"10.0.0.0/8\", \"x\"]\n[defaults.restart]\nmax = \"-1s\"\n"))
	f.Add([]byte("[[log]]\n\xff = 1"))
	known := schema()
	const file = "/etc/config.toml"
	f.Fuzz(mutate.Many(func(t *testing.T, data []byte) {
		_, problems := parseBy(known, file, data)
		_, again := parseBy(known, file, data)
		if len(problems) != len(again) {
			t.Errorf("%q has %d problems, then %d", data, len(problems), len(again))
		}
		for _, p := range problems {
			if text := p.Error(); !strings.HasPrefix(text, file) || len(text) < len(file+": x") {
				t.Errorf("%q: a problem that names nothing: %q", data, text)
			}
		}
	}))
}
