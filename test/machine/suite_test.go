//go:build machine

package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// commandSuite checks what every backend promises about commands.
func commandSuite(t *testing.T, m *Machine) {
	t.Run("exit_codes_pass_through", func(t *testing.T) {
		for _, want := range []int{0, 1, 7, 255} {
			if r := m.Run(t.Context(), "sh", "-c", "exit $1", "sh", strconv.Itoa(want)); r.Err != nil ||
				r.ExitCode != want {
				t.Errorf("exit %d: code %d, error %v", want, r.ExitCode, r.Err)
			}
		}
	})
	t.Run("signal_is_128_and_its_number", func(t *testing.T) {
		if r := m.Shell(t.Context(), "kill -KILL $$"); r.Err != nil || r.ExitCode != 137 {
			t.Errorf("code %d, error %v", r.ExitCode, r.Err)
		}
	})
	t.Run("unknown_program_is_127", func(t *testing.T) {
		if r := m.Run(t.Context(), "no-such-program"); r.ExitCode != 127 ||
			!strings.Contains(r.Stderr, "no-such-program") {
			t.Errorf("code %d, stderr %q", r.ExitCode, r.Stderr)
		}
	})
	t.Run("outputs_are_kept_apart", func(t *testing.T) {
		r := m.Shell(t.Context(), "echo out; echo err >&2")
		if r.Stdout != "out\n" || r.Stderr != "err\n" {
			t.Errorf("stdout %q, stderr %q", r.Stdout, r.Stderr)
		}
	})
	t.Run("files_are_made_with_mode_0644", func(t *testing.T) {
		if got := m.MustShell(t, "umask; touch /run/made; stat --format=%a /run/made"); got != "0022\n644" {
			t.Error(got)
		}
	})
	t.Run("environment_is_clean", func(t *testing.T) {
		t.Setenv("OF_THE_HOST", "leaks")
		r := m.RunCommand(t.Context(), Command{Args: []string{"sh", "-c", "env; pwd"}, Env: []string{"MINE=1"},
			Dir: "/usr"})
		if strings.Contains(r.Stdout, "OF_THE_HOST") || !strings.Contains(r.Stdout, "MINE=1\n") ||
			!strings.HasSuffix(r.Stdout, "/usr\n") {
			t.Error(r.Stdout)
		}
	})
	t.Run("input_larger_than_any_buffer_round_trips", func(t *testing.T) {
		want := randomBytes(3 << 20)
		var got bytes.Buffer
		r := m.RunCommand(t.Context(), Command{Args: []string{"cat"}, Stdin: bytes.NewReader(want), Stdout: &got})
		if err := r.Check(); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d of %d bytes, error %v", got.Len(), len(want), err)
		}
	})
	t.Run("input_that_nobody_reads_holds_nothing_up", func(t *testing.T) {
		r := m.RunCommand(t.Context(), Command{Args: []string{"true"}, Stdin: bytes.NewReader(make([]byte, 3<<20))})
		if err := r.Check(); err != nil && !strings.Contains(err.Error(), "broken pipe") {
			t.Error(err)
		}
	})
	t.Run("end_of_context_kills_the_whole_tree", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r := m.Shell(ctx, "sleep 1234 & setsid sleep 1234 & wait")
		if !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("code %d, error %v", r.ExitCode, r.Err)
		}
		if r := m.Run(t.Context(), "pgrep", "-f", "sleep 1234"); r.ExitCode != 1 {
			t.Errorf("still there: %s", r.Stdout)
		}
	})
	t.Run("output_streams_while_it_runs", func(t *testing.T) {
		reader, writer := io.Pipe()
		p, err := m.Start(t.Context(), Command{Args: []string{"sh", "-c", "echo first; sleep 1000"}, Stdout: writer})
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 6)
		if _, err := io.ReadFull(reader, line); err != nil || string(line) != "first\n" {
			t.Errorf("%q, %v", line, err)
		}
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		if code, err := p.Wait(); err != nil || code != 137 {
			t.Errorf("code %d, error %v", code, err)
		}
	})
}

// fileSuite checks what every backend promises about files.
func fileSuite(t *testing.T, m *Machine) {
	ctx := t.Context()
	t.Run("of_the_configuration_are_there_with_mode_and_owner", func(t *testing.T) {
		if got := m.MustRun(t, "stat", "--format=%a %u:%g %s", "/etc/of/the/test"); got != "640 0:0 5" {
			t.Error(got)
		}
	})
	t.Run("content_and_mode_round_trip", func(t *testing.T) {
		want := randomBytes(100_000)
		if err := m.WriteFile(ctx, "/root/a dir/it's a file", want, fs.ModeSetuid|0o750); err != nil {
			t.Fatal(err)
		}
		if got := m.MustRun(t, "stat", "--format=%a", "/root/a dir/it's a file"); got != "4750" {
			t.Error("mode", got)
		}
		got, err := m.ReadFile(ctx, "/root/a dir/it's a file")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("missing_file_is_an_error_with_its_name", func(t *testing.T) {
		if _, err := m.ReadFile(ctx, "/no/such"); err == nil || !strings.Contains(err.Error(), "/no/such") {
			t.Error(err)
		}
	})
	t.Run("tree_round_trips", func(t *testing.T) {
		from, to := t.TempDir(), filepath.Join(t.TempDir(), "back")
		write(t, filepath.Join(from, "sub", "exe"), "#!/bin/sh\n", 0o755)
		write(t, filepath.Join(from, "plain"), "text", 0o600)
		if err := os.Symlink("plain", filepath.Join(from, "link")); err != nil {
			t.Fatal(err)
		}
		if err := m.CopyIn(ctx, from, "/var/run/tree"); err != nil { // /var/run is a symbolic link
			t.Fatal(err)
		}
		if got := m.MustRun(t, "stat", "--format=%a %u", "/run/tree/sub/exe"); got != "755 0" {
			t.Error(got)
		}
		if err := m.CopyOut(ctx, "/run/tree", to); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(filepath.Join(to, "link")); err != nil || got != "plain" {
			t.Error(got, err)
		}
		if info, err := os.Stat(filepath.Join(to, "sub", "exe")); err != nil || info.Mode().Perm() != 0o755 ||
			info.Size() != 10 {
			t.Error(info, err)
		}
	})
	t.Run("single_file_comes_out_with_its_mode", func(t *testing.T) {
		host := filepath.Join(t.TempDir(), "f")
		if err := m.CopyOut(ctx, "/etc/of/the/test", host); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(host); err != nil || info.Mode().Perm() != 0o640 || info.Size() != 5 {
			t.Error(info, err)
		}
	})
}

// networkSuite checks that the host reaches what listens in the machine, and the machine nothing
// but itself.
func networkSuite(t *testing.T, m *Machine) {
	ctx := t.Context()
	// systemd accepts, and hands each connection to a script as its standard input and output.
	const answer = "#!/bin/bash\nwhile read -r line && [ -n \"${line%?}\" ]; do :; done\nprintf 'HTTP/1.0 200 " +
		"OK\\r\\n\\r\\nhello\\n'\n"
	if err := m.WriteFile(ctx, "/srv/answer", []byte(answer), 0o755); err != nil {
		t.Fatal(err)
	}
	m.MustRun(t, "ln", "-s", "/run/echo.sock", "/root/link.sock")
	unit := func(name, listen string) {
		t.Helper()
		if err := m.WriteFile(ctx, "/run/systemd/system/"+name+".socket",
			[]byte("[Socket]\nAccept=yes\nListenStream="+listen+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		const service = "[Service]\nExecStart=/srv/answer\nStandardInput=socket\nStandardOutput=socket\n"
		if err := m.WriteFile(ctx, "/run/systemd/system/"+name+"@.service", []byte(service), 0o644); err != nil {
			t.Fatal(err)
		}
		m.MustShell(t, "systemctl daemon-reload && systemctl start "+name+".socket")
	}
	unit("tcp", "127.0.0.1:8080")
	unit("unix", "/run/echo.sock")

	get := func(t *testing.T, c *http.Client, url string) {
		t.Helper()
		c.Timeout = time.Minute
		defer c.CloseIdleConnections()
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello\n" {
			t.Errorf("%q, %v", body, err)
		}
	}
	t.Run("http_over_tcp", func(t *testing.T) { get(t, m.HTTPClient("tcp", "127.0.0.1:8080"), "http://guest/") })
	t.Run("http_over_a_name_of_the_loopback", func(t *testing.T) {
		get(t, m.HTTPClient("tcp", "localhost:8080"), "http://guest/")
	})
	t.Run("http_over_a_unix_socket", func(t *testing.T) {
		get(t, m.HTTPClient("unix", "/run/echo.sock"), "http://guest/")
	})
	t.Run("absolute_link_stays_in_the_machine", func(t *testing.T) {
		get(t, m.HTTPClient("unix", "/root/link.sock"), "http://guest/")
	})
	t.Run("port_of_the_host_is_forwarded", func(t *testing.T) {
		f, err := m.Forward("127.0.0.1:0", "tcp", "127.0.0.1:8080")
		if err != nil {
			t.Fatal(err)
		}
		get(t, &http.Client{Transport: &http.Transport{}}, "http://"+f.Addr.String()+"/")
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("closed_port_is_refused", func(t *testing.T) {
		if c, err := m.DialContext(ctx, "tcp", "127.0.0.1:9"); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Error(c, err)
		}
	})
	t.Run("machine_has_the_loopback_only", func(t *testing.T) {
		if got := m.MustShell(t, "ls /sys/class/net; ip -brief address show lo | grep -c 127.0.0.1/8"); got != "lo\n1" {
			t.Error(got)
		}
	})
}

// rebootSuite checks that a reboot boots again, and that files survive it.
func rebootSuite(t *testing.T, m *Machine) {
	boots := func() string { return m.MustShell(t, "journalctl --list-boots --no-pager | grep -c '^ *-\\?[0-9]'") }
	m.MustShell(t, "echo stays >/var/lib/stays; echo goes >/run/goes")
	if got := boots(); got != "1" {
		t.Fatalf("%s boots before the reboot", got)
	}
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.MustShell(t, "cat /var/lib/stays; ls /run/goes 2>/dev/null || echo gone"); got != "stays\ngone" {
		t.Error(got)
	}
	if got := boots(); got != "2" {
		t.Errorf("%s boots in the journal after the reboot", got)
	}
}

// testBinarySuite checks that compiled tests run inside as root, and that nothing but a passed test
// counts.
func testBinarySuite(t *testing.T, m *Machine) {
	binary := BuildTest(t, "./testdata/guest")
	outcome := func(run string) *recorder {
		return record(t, func(r *recorder) { m.RunTestBinary(t.Context(), r, binary, "-test.run="+run) })
	}
	if r := outcome("TestPass"); r.Failed() || !strings.Contains(r.text(), "greetings from the guest") {
		t.Errorf("a binary whose test passes: failed is %v\n%s", r.Failed(), r.text())
	}
	for _, run := range []string{"TestFail", "TestSkip", "TestNone", "Test(Pass|Fail)"} {
		if r := outcome("^" + run + "$"); !r.Failed() {
			t.Errorf("%s passes:\n%s", run, r.text())
		}
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
