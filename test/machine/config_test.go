package machine

import (
	"strings"
	"testing"
)

// TestBinds: a directory of the host is shown by containers alone, at a path that options can hold.
func TestBinds(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string // in the error; "": none
	}{
		{"container", Config{Binds: []Bind{{Guest: "/opt/a", Host: "/var/b"}}}, ""},
		{"virtual_machine", Config{Backend: VM, Binds: []Bind{{Guest: "/opt/a", Host: "/var/b"}}}, "only a container"},
		{"relative_host", Config{Binds: []Bind{{Guest: "/opt/a", Host: "b"}}}, "absolute"},
		{"relative_guest", Config{Binds: []Bind{{Guest: "a", Host: "/b"}}}, "absolute"},
		{"colon", Config{Binds: []Bind{{Guest: "/opt/a:b", Host: "/b"}}}, "colon"},
		{"space", Config{Binds: []Bind{{Guest: "/opt/a", Host: "/b c"}}}, "space"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.cfg.filled()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
