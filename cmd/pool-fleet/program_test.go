package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/cmd/cmdline"
)

// TestSecrets: a file below /etc/pool-managerd/fleet is read as the credential that PID 1 passes,
// any other one by its path; what cannot be a token is refused without repeating it.
func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("fleet_token", "s3cret\n")
	put("fleet_sub_token", "deeper")
	elsewhere := put("elsewhere", " other \r\n")
	for _, c := range []struct{ name, path, want, wrong string }{
		{"none", "", "", ""},
		{"of_the_directory", "/etc/pool-managerd/fleet/token", "s3cret", ""},
		{"of_a_directory_below", "/etc/pool-managerd/fleet/sub/token", "deeper", ""},
		{"of_another_place", elsewhere, "other", ""},
		{"missing", "/etc/pool-managerd/fleet/none", "", "does not exist"},
		{"empty", put("empty", "\n"), "", "is not one line"},
		{"two_lines", put("two", "hunter2\nhunter3\n"), "", "is not one line"},
		{"not_printable", put("binary", "hunter2\x00"), "", "is not one line"},
		{"directory", dir, "", "token_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readLine("[orchestrator] token_file", c.path)
			switch {
			case c.wrong == "" && (err != nil || got != c.want):
				t.Errorf("%q, %v; want %q", got, err, c.want)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) ||
				strings.Contains(err.Error(), "hunter")):
				t.Errorf("%v; want %q in it, and no secret", err, c.wrong)
			}
		})
	}
}

// TestRun has what an administrator can get wrong.
func TestRun(t *testing.T) {
	settings := func(text string) string {
		path := filepath.Join(t.TempDir(), "fleet.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	reports := func(more string) string {
		return settings(`{"advertise_url":"http://a:9200","orchestrator":{"url":"https://b","interval_ms":10000` + more + `}}`)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"version", []string{"--version"}, exitOK, version},
		{"unknown_flag", []string{"--nope"}, cmdline.Usage, "nope"},
		{"argument", []string{"now"}, cmdline.Usage, "now"},
		{"no_settings", []string{"--settings", "/none"}, exitFailed, "which the manager writes"},
		{"no_one_to_report_to", []string{"--settings", settings("{}")}, exitFailed, "names no orchestrator"},
		{"settings_of_another_version", []string{"--settings", settings(`{"fleet":1}`)}, exitFailed, "not of this version"},
		{"no_token_file", []string{"--settings", reports(`,"token_file":"/none"`)}, exitFailed, "/none does not exist"},
		{"no_certificates", []string{"--settings", reports(`,"ca_file":"/etc/hostname"`)}, exitFailed, "no certificate"},
		{"no_machine_id", []string{"--root", "/none", "--settings", reports("")}, exitFailed, "who this host is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if code := run(c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("exit %d, want %d; printed %q, want %q in it", code, c.code, out.String(), c.want)
			}
		})
	}
}
