package systemd

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the golden files")

// TestHelperGolden pins every line of the sandbox.
func TestHelperGolden(t *testing.T) {
	for name, h := range map[string]Helper{
		"strict": {Description: "d", Argv: []string{"/usr/bin/x", "-a"}, Memory: 1 << 20, Tasks: 8, Home: "yes"},
		"needy": {Description: "d", Slice: "s.slice", Argv: []string{"/usr/bin/x"}, Groups: []string{"g"}, Environment: []string{"A=b"},
			Memory: 1 << 20, Tasks: 8, Home: "tmpfs", Needs: Needs{Proc: true, Sockets: true, Generated: true, Scheduling: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, p := range h.Properties() {
				fmt.Fprintf(&b, "%s %T %v\n", p.Name, p.Value, p.Value)
			}
			golden.File(t, filepath.Join("testdata", "helper-"+name+".golden"), b.String(), *update)
		})
	}
}

// TestHelperIsFencedWhateverItNeeds: no need opens what is not its own.
func TestHelperIsFencedWhateverItNeeds(t *testing.T) {
	names := func(n Needs) (out []string) {
		for _, p := range (Helper{Argv: []string{"/x"}, Home: "yes", Needs: n}).Properties() {
			out = append(out, p.Name)
		}
		return out
	}
	strict := names(Needs{})
	for _, c := range []struct {
		needs Needs
		lacks []string
	}{
		{Needs{Proc: true}, []string{"ProtectProc", "ProtectKernelTunables", "ProtectControlGroups"}},
		{Needs{Generated: true}, []string{"MemoryDenyWriteExecute"}},
		{Needs{Sockets: true, Scheduling: true}, nil},
		{Needs{Search: true}, []string{"PrivateUsers"}},
	} {
		have := names(c.needs)
		for _, name := range strict {
			if slices.Contains(have, name) == slices.Contains(c.lacks, name) {
				t.Errorf("%+v: %s is there: %t", c.needs, name, slices.Contains(have, name))
			}
		}
	}
	for _, p := range journalProperties([]string{"/usr/bin/journalctl"}) {
		if filter, ok := p.Value.(SetFilter); ok && p.Name == "RestrictAddressFamilies" &&
			!slices.Equal(filter.Members, []string{"AF_UNIX"}) {
			t.Errorf("journalctl may make sockets of %v", filter.Members)
		}
	}
}
