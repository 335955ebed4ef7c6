package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestBinaries: what is executed decides, not the name that leads to it, when files are read as
// when an engine is prepared.
func TestBinaries(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string // below the folder of the test
		binary  string
		denied  string // DIR is that folder; empty: allowed
		hint    string
	}{
		{name: "the_file", entries: []string{"opt/a"}, binary: "opt/a"},
		{name: "its_folder", entries: []string{"opt/"}, binary: "opt/a"},
		{name: "a_link_to_it", entries: []string{"opt/a"}, binary: "bin/a"},
		{name: "a_link_into_its_folder", entries: []string{"opt/"}, binary: "bin/a"},
		{name: "the_link_is_in_the_list", entries: []string{"bin/a"}, binary: "bin/a"},
		{name: "the_file_of_a_link_in_the_list", entries: []string{"bin/a"}, binary: "opt/a"},
		{name: "a_folder_of_links_is_in_the_list", entries: []string{"links/"}, binary: "opt/a"},
		{name: "a_link_that_leads_out_of_an_allowed_folder", entries: []string{"bin/"}, binary: "bin/a",
			denied: `the binary "DIR/bin/a" is "DIR/opt/a", which is not allowed on this host`,
			hint:   `allowed_binaries = ["DIR/bin/", "DIR/opt/a"]`},
		{name: "another_file", entries: []string{"opt/a"}, binary: "opt/b",
			denied: `the binary "DIR/opt/b" is not allowed on this host`, hint: `allowed_binaries = ["DIR/opt/a", "DIR/opt/b"]`},
		{name: "a_link_that_others_can_change", entries: []string{"opt/"}, binary: "open/a",
			denied: `the binary "DIR/open/a" leads to "DIR/opt/a" by DIR/open, which other users than root can change`,
			hint:   "chmod go-w 'DIR/open'"},
		{name: "a_link_in_the_list_that_others_can_change", entries: []string{"open/a"}, binary: "opt/a",
			denied: `the binary "DIR/opt/a" is not allowed on this host`},
		{name: "nothing_is_there", entries: []string{"opt/"}, binary: "opt/none"},
		{name: "nothing_is_there_and_nothing_allowed", entries: []string{"opt/"}, binary: "bin/none",
			denied: `the binary "DIR/bin/none" is not allowed on this host`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			for _, folder := range []string{"opt", "bin", "open"} {
				err = errors.Join(err, os.Mkdir(filepath.Join(dir, folder), 0o755))
			}
			err = errors.Join(err, os.Symlink("opt", filepath.Join(dir, "links")),
				os.WriteFile(filepath.Join(dir, "opt/a"), nil, 0o755),
				os.WriteFile(filepath.Join(dir, "opt/b"), nil, 0o755),
				os.Symlink("../opt/a", filepath.Join(dir, "bin/a")),
				os.Symlink("../opt/a", filepath.Join(dir, "open/a")),
				os.Chmod(filepath.Join(dir, "open"), 0o777))
			if err != nil {
				t.Fatal(err)
			}
			var p Policy
			for _, entry := range c.entries {
				p.AllowedBinaries = append(p.AllowedBinaries, dir+"/"+entry)
			}
			binary := filepath.Join(dir, c.binary)
			of := pool.Pool{Provisioning: pool.Provisioning{Mode: pool.ModeBinary, Binary: binary}}
			h := Host{Policy: p}
			for when, got := range map[string]*registry.Failure{
				"read":     h.Refuse(of, p.Binaries([]pool.Pool{of})),
				"prepared": p.RefuseExecuted(binary),
			} {
				switch in := strings.NewReplacer("DIR", dir); {
				case c.denied == "" && got != nil, c.denied != "" && got == nil:
					t.Errorf("%s: %v", when, got)
				case got != nil && (got.Message != in.Replace(c.denied) ||
					!strings.Contains(got.Hint, in.Replace(c.hint))):
					t.Errorf("%s: %s (%s)", when, got.Message, got.Hint)
				}
			}
		})
	}
}

// TestDefaultBinary: a pool that names no binary is decided by its engine's.
func TestDefaultBinary(t *testing.T) {
	of := pool.Pool{Engine: "llamacpp", Provisioning: pool.Provisioning{Mode: pool.ModeBinary}}
	found := Binaries{ways: nil}
	if f := (Host{Policy: Policy{AllowedBinaries: []string{"/usr/bin/"}}}).Refuse(of, found); f != nil {
		t.Errorf("a binary that is not installed is refused: %v", f)
	}
	named := of
	named.Provisioning.Binary = "env"
	for list, denied := range map[string]bool{"/opt/": true, "/": false} {
		p := Policy{AllowedBinaries: []string{list}}
		if f := (Host{Policy: p}).Refuse(named, p.Binaries([]pool.Pool{named})); (f != nil) != denied {
			t.Errorf("env of the PATH, with %s: %v", list, f)
		}
	}
	if got := binaryOf(of); got != "llama-server" {
		t.Errorf("the binary of llamacpp is %q", got)
	}
}
