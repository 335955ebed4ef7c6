package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"run", "-release", "forky", "-vm", "-file", "/etc/a=b", "-packages", "jq,polkitd", "--",
		"sh", "-c", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if o.config.Release != machine.Forky || o.config.Backend != machine.VM ||
		!slices.Equal(o.config.Packages, []string{"jq", "polkitd"}) {
		t.Errorf("%+v", o.config)
	}
	if len(o.config.Files) != 1 || o.config.Files[0].Guest != "/etc/a" || o.config.Files[0].Host != "b" {
		t.Errorf("%+v", o.config.Files)
	}
	if !slices.Equal(o.command, []string{"sh", "-c", "x"}) {
		t.Errorf("%q", o.command)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown_release":        {[]string{"shell", "-release", "potato"}, "bookworm"},
		"file_without_two_paths": {[]string{"shell", "-file", "/etc/a"}, "GUEST=HOST"},
		"unknown_flag":           {[]string{"shell", "-qemu"}, "-qemu"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(c.args); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error with %q: %v", c.want, err)
			}
		})
	}
}
