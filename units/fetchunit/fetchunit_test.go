package fetchunit_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func addresses(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// TestGolden: what a download, and the question for addresses, may see, write to and connect to.
func TestGolden(t *testing.T) {
	fetch := fetchunit.Fetch{
		Program: fetchunit.Program, ID: "models--acme--tiny.0011aabb", Ref: "hf:acme/tiny/tiny.gguf",
		CacheDir: "/var/cache/pool-managerd/models", Directory: "models--acme--tiny",
		Request:   []byte(`{"version":1}`),
		Output:    "/run/pool-managerd/fetch/models--acme--tiny.0011aabb.jsonl",
		Addresses: addresses("203.0.113.7", "2001:db8::7"),
	}
	token := fetch
	token.Credentials = []systemd.PathString{{First: "token", Second: "/etc/pool-managerd/hub-token"}}
	token.CacheDir = "/srv/hub"
	own := fetch
	own.Request, own.Addresses = []byte(`{"version":1,"ref":"nas:acme/tiny"}`), nil
	own.Own = &fetchunit.Own{Path: "/opt/site/nas-provisioner",
		Files: []string{"/mnt/models", "/mnt/more", "/home/nas"}}
	own.Credentials = []systemd.PathString{{First: "credentials", Second: "/etc/pool-managerd/nas"}}
	for _, c := range []struct {
		name  string
		props []systemd.Property
	}{
		{"fetch", fetch.Properties()},
		{"fetch_with_token_in_srv", token.Properties()},
		{"program_of_the_host", own.Properties()},
		{"resolve", fetchunit.Resolve{Program: fetchunit.Program, Hosts: []string{"hub.example", "cdn.example"},
			Nameservers: addresses("192.0.2.53", "::1")}.Properties()},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			for _, p := range c.props {
				v := p.Value
				if fields, ok := v.([][]byte); ok {
					v = fmt.Sprintf("%s", fields)
				}
				text, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s %T %s\n", p.Name, p.Value, text)
			}
			file := filepath.Join("testdata", c.name+".properties")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingReachesTheJournalUnescaped: a reference is text from a file, and the journal and
// systemctl print the description.
func TestNothingReachesTheJournalUnescaped(t *testing.T) {
	props := fetchunit.Fetch{Ref: "hf:a/b\nMODEL_ID=c\x1b[2J"}.Properties()
	for _, p := range props {
		if text := fmt.Sprintf("%s", p.Value); strings.ContainsAny(text, "\n\x1b") {
			t.Errorf("%s has a control character: %q", p.Name, text)
		}
	}
}
