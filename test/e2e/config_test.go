//go:build machine

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// badFile is a pool file that must be refused. make is a script that puts it in place as $f, and
// says is a text that the report must contain.
type badFile struct {
	name string
	make string
	says string
}

func badFiles() []badFile {
	body := `engine = \"command\"\ndevices = []\n[provisioning]\nbinary = \"/usr/bin/true\"\n`
	line := func(text string) string { return fmt.Sprintf(`printf "%s" >"$f"`, text+`\n`+body) }
	return []badFile{
		{"broken_toml", `printf 'engine = "llamacpp\n' >"$f"`, ":1:"},
		{"not_utf8", `printf 'engine = "\377\376"\n' >"$f"`, "UTF-8"},
		{"fifty_megabytes", `head -c 50M /dev/zero | tr '\0' '#' >"$f"`, "50M"},
		{"unreadable", line(``) + `; chmod 000 "$f"`, "permission"},
		{"symlink_to_itself", `ln -s "$f" "$f"`, ""},
		{"symlink_loop_of_two", `ln -s "$f.b" "$f"; ln -s "$f" "$f.b"`, ""},
		{"symlink_to_nothing", `ln -s /nowhere/x.toml "$f"`, ""},
		{"a_directory", `mkdir "$f"`, ""},
		{"id_with_a_slash", line(`id = \"a/b\"`), "id"},
		{"id_of_two_dots", line(`id = \"..\"`), "id"},
		{"id_with_a_space", line(`id = \"a b\"`), "id"},
		{"id_of_300_characters", line(`id = \"` + strings.Repeat("x", 300) + `\"`), "id"},
		{"id_that_another_file_has", line(`id = \"good\"`), "good"},
		{"unknown_key", line(`modle = \"file:/x\"`), ":1:"},
		{"wrong_type", line(`slots = \"four\"`), ":1:"},
		{"bad_range", line(`replicas = 0`), ":1:"},
		{"unknown_engine", `printf 'devices = []\nengine = "ollama"\n' >"$f"`, ":2:"},
	}
}

// TestBadPoolFiles: a wrong pool file is reported with its place, fails the reload, and costs no
// pool that runs.
func TestBadPoolFiles(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("good", command().quick())
	h.reload()
	h.wait("good", isReady)
	before := h.engines()

	for _, bad := range badFiles() {
		t.Run("at_reload/"+bad.name, func(t *testing.T) {
			h := h.in(t)
			file := host.PoolFile("bad-" + bad.name)
			t.Cleanup(func() { removeAll(h, file) })
			h.shell("f=" + file + "\n" + bad.make)
			h.reloadFails()
			h.reported(t, file, bad.says)
			h.untouched(before)
			removeAll(h, file)
			h.reload()
			h.noProblems()
		})
	}
	t.Run("all_at_start", func(t *testing.T) {
		h := h.in(t)
		for _, bad := range badFiles() {
			h.shell("f=" + host.PoolFile("bad-"+bad.name) + "\n" + bad.make)
		}
		h.must("systemctl", "restart", host.ManagerUnit)
		for _, bad := range badFiles() {
			h.reported(t, host.PoolFile("bad-"+bad.name), bad.says)
		}
		h.wait("good", condition{"still ready", func(p host.Pool) bool { return p.Ready }})
		h.untouched(before)
	})
	t.Run("check_prints_all_and_fails", func(t *testing.T) {
		h := h.in(t)
		for _, program := range [][]string{{"pool-managerd", "--check"}, {"poolctl", "check"}} {
			ctx, cancel := h.within()
			defer cancel()
			r := h.M.Run(ctx, program...)
			if r.ExitCode != 1 {
				t.Errorf("%v: exit code %d", program, r.ExitCode)
			}
			for _, bad := range badFiles() {
				if out := r.Stdout + r.Stderr; !strings.Contains(out, "bad-"+bad.name) {
					t.Errorf("%v does not name bad-%s:\n%s", program, bad.name, out)
				}
			}
		}
	})
}

// removeAll removes what a bad file left, also after its test has failed.
func removeAll(h *site, file string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := h.Host.Run(ctx, "rm", "-rf", file, file+".b"); err != nil {
		h.t.Error(err)
	}
}

// reloadFails is a reload that must report a fault by its exit status.
func (s *site) reloadFails() {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	r := s.Reload(ctx)
	if r.Err != nil {
		s.t.Fatal(r.Err)
	}
	if r.ExitCode == 0 {
		s.t.Error("systemctl reload succeeded although a file is wrong")
	}
}

// reported waits until the API and the log name the file with CONFIG_INVALID.
func (s *site) reported(t *testing.T, file, says string) {
	t.Helper()
	s.eventually(func(ctx context.Context) error {
		list, err := s.Pools(ctx)
		if err != nil {
			return err
		}
		for _, p := range list.Problems {
			if p.File == file && strings.HasPrefix(p.Error, "CONFIG_INVALID: ") && strings.Contains(p.Error, says) {
				return nil
			}
		}
		return fmt.Errorf("no problem with CONFIG_INVALID and %q for %s in %+v", says, file, list.Problems)
	})
	s.eventually(func(ctx context.Context) error {
		out, err := s.Host.Run(ctx, "journalctl", "--no-pager", "-o", "cat", "-u", host.ManagerUnit)
		if err == nil && !strings.Contains(out, file) {
			err = fmt.Errorf("the log does not name %s", file)
		}
		return err
	})
}

func (s *site) noProblems() {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		list, err := s.Pools(ctx)
		if err == nil && len(list.Problems) > 0 {
			err = fmt.Errorf("problems are left: %+v", list.Problems)
		}
		return err
	})
}

// TestReloadExitStatus: systemctl reload fails when a file is wrong and succeeds when all are
// right, on each release, although each goes about a reload in its own way.
func TestReloadExitStatus(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("good", command().quick())
			h.reload()
			h.wait("good", isReady)
			before := h.engines()
			manager := h.unit(host.ManagerUnit)

			h.pool("bad", text("engine = 5\n"))
			h.pool("second", command().quick())
			h.reloadFails()
			h.wait("second", isReady) // what is right has taken effect all the same
			h.reported(t, host.PoolFile("bad"), ":1:")
			h.removePool("bad")
			h.reload()
			h.untouched(before)
			if now := h.unit(host.ManagerUnit); now.Process() != manager.Process() {
				t.Errorf("the manager was restarted by a reload: %+v, it was %+v", now, manager)
			}
		})
	}
}

// TestReload: a reload adds, changes and removes pools, and touches no other.
func TestReload(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("kept", stub().quick())
	h.pool("changed", stub().quick())
	h.pool("removed", stub().quick())
	h.reload()
	for _, id := range []string{"kept", "changed", "removed"} {
		h.wait(id, isReady)
	}
	kept := map[string]host.Process{host.EngineUnit("kept"): h.engine("kept")}
	changed := h.engine("changed")

	h.pool("changed", stub().with(`env = { NEW = "1" }`).quick())
	h.pool("added", stub().quick())
	h.removePool("removed")
	h.reload()
	h.wait("added", isReady)
	h.waitGone("removed")
	h.wait("changed", isReady, condition{"a new process", func(p host.Pool) bool {
		return p.Replicas[0].InvocationID != changed.Invocation
	}})
	h.untouched(kept)

	t.Run("nothing_changed_nothing_touched", func(t *testing.T) {
		h := h.in(t)
		before := h.engines()
		h.must("touch", host.PoolFile("kept"))
		h.reload()
		h.must("cp", host.PoolFile("kept"), "/tmp/kept")
		h.reload()
		h.untouched(before)
	})
	t.Run("a_bad_version_leaves_the_former_in_force", func(t *testing.T) {
		h := h.in(t)
		before := h.engines()
		h.pool("kept", stub().with("slotz = 2").quick())
		h.reloadFails()
		h.wait("kept", condition{"ready, with CONFIG_INVALID beside it", func(p host.Pool) bool {
			return p.Ready && p.Code() == "CONFIG_INVALID" && strings.Contains(p.LastError, "slotz") && p.Hint != ""
		}})
		h.untouched(before)
		t.Run("also_over_a_crash", func(t *testing.T) {
			h := h.in(t)
			h.must("kill", "-KILL", fmt.Sprint(h.engine("kept").PID))
			h.wait("kept", condition{"back, with CONFIG_INVALID", func(p host.Pool) bool {
				return p.Ready && p.RestartCount == 1 && p.Code() == "CONFIG_INVALID"
			}})
		})
		t.Run("also_over_a_restart_of_the_manager", func(t *testing.T) {
			h := h.in(t)
			before := h.engines()
			h.must("systemctl", "restart", host.ManagerUnit)
			h.wait("kept", condition{"CONFIG_INVALID", func(p host.Pool) bool { return p.Code() == "CONFIG_INVALID" }})
			h.untouched(before)
		})
		t.Run("fixed_it_is_the_same_engine", func(t *testing.T) {
			h := h.in(t)
			before := h.engines()
			h.pool("kept", stub().quick())
			h.reload()
			h.wait("kept", isReady, condition{"no error", func(p host.Pool) bool { return p.LastError == "" }})
			h.untouched(before)
		})
	})
	t.Run("a_broken_config_toml_stops_nothing", func(t *testing.T) {
		h := h.in(t)
		before := h.engines()
		h.write(host.ConfigFile, "require_gpu = maybe\n")
		h.reloadFails()
		h.untouched(before)
		h.must("systemctl", "restart", host.ManagerUnit)
		h.untouched(before)
		h.write(host.ConfigFile, host.Config)
		h.reload()
		h.wait("kept", isReady)
		h.untouched(before)
	})
}

// TestFiveHundredPools: so many pools, of which one runs and the others wait for their model, are
// taken in one reload, shown by the API, and removed again; the one that runs is not touched.
func TestFiveHundredPools(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("good", command().quick())
	h.reload()
	h.wait("good", isReady)
	before := h.engines()
	const many = 500
	var files bytes.Buffer
	files.WriteString("cd " + host.PoolsDir + "\nfor i in $(seq 1 500); do cat >waits$i.toml <<'END'\n")
	fmt.Fprintf(&files, "engine = \"llamacpp\"\nmodel = \"file:/srv/models/comes-later.gguf\"\ndevices = "+
		"[]\n[provisioning]\nbinary = %q\nEND\ndone\n", host.StubEngine)
	h.shell(files.String())
	h.reload()
	h.eventually(func(ctx context.Context) error {
		list, err := h.Pools(ctx)
		if err != nil {
			return err
		}
		missing := 0
		for _, p := range list.Pools {
			if p.Code() == "MODEL_NOT_FOUND" {
				missing++
			}
		}
		if len(list.Pools) != many+1 || missing != many {
			return fmt.Errorf("%d pools, %d of them without their model", len(list.Pools), missing)
		}
		return nil
	})
	h.untouched(before)
	h.must("sh", "-c", "rm "+host.PoolsDir+"/waits*.toml")
	h.reload()
	h.eventually(func(ctx context.Context) error {
		list, err := h.Pools(ctx)
		if err == nil && len(list.Pools) != 1 {
			err = fmt.Errorf("%d pools are left", len(list.Pools))
		}
		return err
	})
	h.untouched(before)
}

// TestCPUPolicy: unless the host's configuration allows it, a pool without a GPU is refused, with
// the code and the hint.
func TestCPUPolicy(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.write(host.ConfigFile, "auth_optional = true\n")
	h.pool("cpu", command().quick())
	h.reloadFails() // the pool cannot run
	p := h.wait("cpu", inState("refused"), failsWith("POLICY_DENIED"))
	if !strings.Contains(p.Hint, "require_gpu") {
		t.Errorf("the hint does not name require_gpu: %q", p.Hint)
	}
	if running := h.engines(); len(running) != 0 {
		t.Errorf("something runs: %v", running)
	}
	h.write(host.ConfigFile, host.Config)
	h.reload()
	h.wait("cpu", isReady)
	t.Run("a_pool_that_runs_is_stopped_when_the_policy_comes_back", func(t *testing.T) {
		h := h.in(t)
		h.write(host.ConfigFile, "auth_optional = true\n")
		h.reloadFails()
		h.wait("cpu", inState("refused"), failsWith("POLICY_DENIED"))
		if running := h.engines(); len(running) != 0 {
			t.Errorf("something runs: %v", running)
		}
	})
}
