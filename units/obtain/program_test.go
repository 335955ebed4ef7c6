package obtain

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// withProgram are settings with a program for nas: models.
func (h *host) withProgram(mode os.FileMode) egress.Settings {
	h.t.Helper()
	path := filepath.Join(h.dir, "nas")
	if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"), mode), os.Chmod(path, mode)); err != nil {
		h.t.Fatal(err)
	}
	s := h.settings()
	s.Programs = map[string]egress.Program{"nas": {Path: path, Silence: time.Minute}}
	return s
}

// copied is what a program leaves in the cache for a request.
func copied(t *testing.T, r wire.Request, commit string) (snapshot string) {
	t.Helper()
	dir := filepath.Join(r.CacheDir, r.Directory)
	snapshot = filepath.Join(dir, "snapshots", commit)
	if err := errors.Join(os.MkdirAll(snapshot, 0o755), os.MkdirAll(filepath.Join(dir, "refs"), 0o755),
		os.WriteFile(filepath.Join(snapshot, "tiny.gguf"), []byte("GGUF"), 0o644),
		os.WriteFile(filepath.Join(dir, "refs", "main"), []byte(commit), 0o644)); err != nil {
		t.Error(err)
	}
	return snapshot
}

// TestProgram: a program of the host's own gets the request on its unit's standard input, reaches
// the hosts that are set for it, and what it leaves is the model. Its digest is not believed.
func TestProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		s := h.withProgram(0o755)
		p := s.Programs["nas"]
		p.Hosts, p.Files = []string{"nas.example"}, []string{h.dir}
		s.Programs["nas"], s.AllowedHosts = p, []string{"nas.example"}
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			at := copied(t, r, "1")
			print(wire.Event{Kind: wire.Result, Commit: "1", Path: at, Digest: "sha256:" + strings.Repeat("0", 64)})
			return systemd.Status{ActiveState: "inactive", ExecMainCode: 1}, nil
		}
		o := h.start(s)
		w := want(t, "nas:acme/tiny")
		got, err := o.Obtain(t.Context(), w, quiet)
		if err != nil || !strings.HasSuffix(got.Path, "/snapshots/1/tiny.gguf") || got.Digest != "" {
			t.Fatalf("%+v, %v", got, err)
		}
		if r := h.requests[0]; r.Ref != "nas:acme/tiny" || r.Endpoint != "" || len(r.Hosts["nas.example"]) != 1 {
			t.Errorf("the request is %+v", r)
		}
		start := value(h.props[0], "ExecStartEx").([]systemd.ExecCommand)[0]
		if start.Path != p.Path || len(value(h.props[0], "IPAddressAllow").([]systemd.AddressPrefix)) != 1 {
			t.Errorf("the unit executes %+v", start)
		}
		if again, err := o.Obtain(t.Context(), w, quiet); err != nil || again.Path != got.Path || len(h.requests) != 1 {
			t.Errorf("what is there: %+v, %v, %d runs", again, err, len(h.requests))
		}
	})
}

// TestProgramFails: whatever a program of the host's own does, its pools say what it was and what
// to do.
func TestProgramFails(t *testing.T) {
	exited := func(status int) (systemd.Status, error) {
		return systemd.Status{ActiveState: "failed", ExecMainCode: 1, ExecMainStatus: status}, nil
	}
	for _, c := range []struct {
		name string
		set  func(*egress.Settings)
		mode os.FileMode
		run  func(h *host, r wire.Request, print func(wire.Event)) (systemd.Status, error)
		code registry.Code
		says string
		hint string
		runs int
	}{
		{name: "it_is_not_set", set: func(s *egress.Settings) { s.Programs = nil }, code: registry.CodeConfigInvalid,
			says: "no program is set", hint: "programs.nas"},
		{name: "the_host_downloads_nothing", set: func(s *egress.Settings) { s.Egress = egress.Deny },
			code: registry.CodePolicyDenied, says: "downloads nothing", hint: `egress = "fetch"`},
		{name: "its_host_is_not_allowed", set: func(s *egress.Settings) {
			p := s.Programs["nas"]
			p.Hosts = []string{"nas.example"}
			s.Programs["nas"] = p
		}, code: registry.CodePolicyDenied, says: "nas.example", hint: "allowed_hosts"},
		{name: "it_is_not_executable", mode: 0o644, code: registry.CodeProvisionFailed, says: "not executable",
			hint: "chmod +x"},
		{name: "others_can_write_it", mode: 0o757, code: registry.CodeProvisionFailed, says: "other users than root",
			hint: "chmod go-w"},
		{name: "its_files_are_missing", set: func(s *egress.Settings) {
			p := s.Programs["nas"]
			p.Files = []string{"/no/such/share"}
			s.Programs["nas"] = p
		}, code: registry.CodeProvisionFailed, says: "/no/such/share", hint: "Mount"},
		{name: "it_refuses", run: func(_ *host, _ wire.Request, print func(wire.Event)) (systemd.Status, error) {
			return failing(print, wire.Event{Reason: wire.NotFound, Message: "there is no /mnt/acme"})
		}, code: registry.CodeModelNotFound, says: "there is no /mnt/acme", hint: "pool's file", runs: 1},
		{name: "it_says_nothing_of_use", run: func(_ *host, _ wire.Request, print func(wire.Event),
		) (systemd.Status, error) {
			print(wire.Event{Kind: "done"})
			return exited(0)
		}, code: registry.CodeProvisionFailed, says: `unknown kind "done"`, hint: "journalctl", runs: triesMost},
		{name: "it_hangs", run: func(h *host, _ wire.Request, print func(wire.Event)) (systemd.Status, error) {
			print(wire.Event{Kind: wire.Plan, Total: 10})
			before := len(h.stopped)
			for range 120 {
				time.Sleep(time.Second)
				if _, stopped := h.seen(); len(stopped) > before {
					return systemd.Status{ActiveState: "failed", ExecMainCode: 2, ExecMainStatus: 15}, nil
				}
			}
			return exited(0)
		}, code: registry.CodeProvisionFailed, says: "printed no event for 1m0s", hint: "programs.nas.silence",
			runs: triesMost},
		{name: "refs_has_nothing", run: func(_ *host, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			at := filepath.Join(r.CacheDir, r.Directory, "snapshots/1")
			print(wire.Event{Kind: wire.Result, Commit: "1", Path: at})
			return exited(0)
		}, code: registry.CodeProvisionFailed, says: "the cache has none", hint: "refs/main", runs: 1},
		{name: "refs_has_another", run: func(h *host, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			copied(h.t, r, "1")
			at := filepath.Join(r.CacheDir, r.Directory, "snapshots/2")
			print(wire.Event{Kind: wire.Result, Commit: "2", Path: at})
			return exited(0)
		}, code: registry.CodeProvisionFailed, says: "the cache has 1", hint: "refs/main", runs: 1},
		{name: "a_link_leads_out", run: func(h *host, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			at := copied(h.t, r, "1")
			if err := errors.Join(os.Remove(at+"/tiny.gguf"), os.Symlink("/etc/passwd", at+"/tiny.gguf")); err != nil {
				h.t.Error(err)
			}
			print(wire.Event{Kind: wire.Result, Commit: "1", Path: at})
			return exited(0)
		}, code: registry.CodeProvisionFailed, says: "leads out of its directory", hint: "poolctl models rm", runs: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				s := h.withProgram(cmp.Or(c.mode, 0o755))
				if c.set != nil {
					c.set(&s)
				}
				h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
					return c.run(h, r, print)
				}
				o := h.start(s)
				_, err := o.Obtain(t.Context(), want(t, "nas:acme/tiny"), quiet)
				f := registry.AsFailure(err, "", "")
				if f == nil || f.Code != c.code || !strings.Contains(f.Message, c.says) ||
					!strings.Contains(f.Hint, c.hint) {
					t.Errorf("%+v, want %s with %q and the hint %q", f, c.code, c.says, c.hint)
				}
				if len(h.requests) != c.runs {
					t.Errorf("%d runs, want %d", len(h.requests), c.runs)
				}
			})
		})
	}
}

// TestProgramThatPolicyForbids: allowed_binaries is asked before each run.
func TestProgramThatPolicyForbids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		s := h.withProgram(0o755)
		o := h.start(s)
		denied := registry.Fail(registry.CodePolicyDenied, "not allowed", "Set allowed_binaries.")
		o.o.Refuse = func(program string) *registry.Failure {
			if program != s.Programs["nas"].Path {
				t.Errorf("asked about %s", program)
			}
			return denied
		}
		ref, err := modelref.Parse("nas:acme/tiny")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Obtain(t.Context(), Want{Ref: ref}, quiet); registry.AsFailure(err, "", "") != denied {
			t.Errorf("%v", err)
		}
		if len(h.requests) != 0 {
			t.Errorf("it ran %d times", len(h.requests))
		}
	})
}
