package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

// unitsOfEngines is what systemctl show prints: one that serves, one whose process is another than
// that of its hand-off file, one that failed, and what is no engine.
const unitsOfEngines = `Id=pool-engine@gemma.r0.service
LoadState=loaded
ActiveState=active
SubState=running
MainPID=4711
NRestarts=0
StateChangeTimestamp=@1700000000

Id=pool-engine@gemma.r1b.service
LoadState=loaded
ActiveState=active
SubState=running
MainPID=4713
NRestarts=2
StateChangeTimestamp=@1700000000

Id=pool-engine@llama3\x2d8b.r0.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
MainPID=0
NRestarts=7
StateChangeTimestamp=

Id=pool-engine@.service
LoadState=not-found
`

// withoutManager runs poolctl on a host whose manager does not answer.
func withoutManager(t *testing.T, systemctl string, args ...string) result {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, handoffDir)
	script := filepath.Join(root, "systemctl")
	err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(script, []byte(systemctl), 0o755),
		os.WriteFile(filepath.Join(dir, "gemma.r0.json"), []byte(`{"url":"http://127.0.0.1:21000","pool_id":"gemma",`+
			`"replica_id":"r0","engine":"llamacpp","engine_version":"b5000","model_id":"file:/srv/gemma.gguf","pid":4711,`+
			`"slots_total":4}`), 0o644),
		os.WriteFile(filepath.Join(dir, "gemma.r1.json"), []byte(`{"url":"http://127.0.0.1:21001","pid":4000}`), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: func() time.Time { return clock }, every: time.Millisecond,
		systemctl: script, root: root}
	code := run(t.Context(), a, args)
	return result{code, strings.ReplaceAll(out.String(), root, ""), strings.ReplaceAll(errOut.String(), root, "")}
}

// TestWithoutTheManager: list and status show what PID 1 and the hand-off files say, and mark it.
func TestWithoutTheManager(t *testing.T) {
	script := "#!/bin/sh\ncat <<'END'\n" + unitsOfEngines + "END\n"
	for _, c := range []struct{ name, line string }{
		{"aside-list", "list"},
		{"aside-list-glob", "list gem*"},
		{"aside-list-name", "list -o name"},
		{"aside-list-json", "list -o json"},
		{"aside-status", "status gemma"},
		{"aside-status-several", "status --all"},
		{"aside-status-unknown", "status zebra"},
		{"aside-template", "list -o jsonpath={.engines[*].pid}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := withoutManager(t, script, strings.Fields(c.line)...)
			if r.code != exitUnreachable {
				t.Errorf("exit status %d", r.code)
			}
			golden.File(t, filepath.Join("testdata", c.name+".golden"),
				"$ poolctl "+c.line+"\n"+r.out+"-- standard error --\n"+r.errOut+"-- exit status 4 --\n", *update)
		})
	}
	t.Run("systemctl_does_not_answer", func(t *testing.T) {
		if r := withoutManager(t, "#!/bin/sh\nexit 1\n", "list"); r.code != exitUnreachable || r.out != "" ||
			!strings.Contains(r.errOut, "cannot be reached") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("not_where_another_address_was_given", func(t *testing.T) {
		if r := withoutManager(t, script, "list", "--socket", "/nowhere"); r.code != exitUnreachable || r.out != "" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("not_where_the_socket_is_forbidden", func(t *testing.T) {
		a := &app{o: options{admin: defaultAdminSocket}, systemctl: "/bin/false"}
		err := unreachable(&client.Unreachable{Addr: "/run/pool-managerd/admin.sock", Err: fs.ErrPermission})
		f, got := a.aside(t.Context(), err, nil, nil)
		var e *exitError
		if f.body != nil || !errors.As(got, &e) || !strings.Contains(e.hint, "group pool-managerd") ||
			!strings.Contains(e.hint, "usermod -aG pool-managerd") {
			t.Errorf("%v %v", f, got)
		}
	})
}
