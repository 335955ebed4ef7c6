package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// configured is a daemon with these two files.
func configured(t *testing.T, config, pool string) *daemon {
	t.Helper()
	dir := t.TempDir()
	d := &daemon{level: new(slog.LevelVar), log: slog.New(slog.DiscardHandler), registry: registry.New(),
		o: options{configFile: filepath.Join(dir, "config.toml"), poolsDir: filepath.Join(dir, "pools.d"),
			stateDir: dir}}
	if err := os.Mkdir(d.o.poolsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, d.o.configFile, config)
	write(t, filepath.Join(d.o.poolsDir, "a.toml"), pool)
	return d
}

// restarted is another daemon in its place.
func restarted(d *daemon) *daemon {
	after := &daemon{level: d.level, log: d.log, registry: registry.New(), o: d.o}
	after.openFormer()
	return after
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// names says which pools are wanted, and which have a problem.
func names(d supervise.Desired) (pools, problems string) {
	for _, p := range d.Pools {
		pools += p.ID
	}
	for _, p := range d.Problems {
		problems += p.PoolID
	}
	return pools, problems
}

func TestLoad(t *testing.T) {
	const (
		good   = "engine = \"llamacpp\"\nmodel = \"file:/srv/a.gguf\"\ndevices = [0]\n"
		broken = "require_gpu = \n"
	)
	t.Run("broken_config_at_start_holds_everything", func(t *testing.T) {
		d := configured(t, broken, good).load(false)
		if pools, _ := names(d); !d.HostInvalid || pools != "" || len(d.HostProblems) == 0 {
			t.Errorf("host invalid=%t, pools %q, host problems %v", d.HostInvalid, pools, d.HostProblems)
		}
	})
	t.Run("broken_config_at_reload_keeps_the_former", func(t *testing.T) {
		d := configured(t, "require_gpu = false\n", good)
		d.load(false)
		write(t, d.o.configFile, broken)
		got := d.load(false)
		if pools, problems := names(got); got.HostInvalid || pools != "a" || problems != "" ||
			d.settings.Host.RequireGPU {
			t.Errorf("host invalid=%t, pools %q, problems %q", got.HostInvalid, pools, problems)
		}
	})
	t.Run("a_pool_that_is_good_by_the_former_config_has_no_problem", func(t *testing.T) {
		d := configured(t, "[defaults]\nengine = \"llamacpp\"\n", "model = \"file:/srv/a.gguf\"\ndevices = [0]\n")
		d.load(false)
		write(t, d.o.configFile, broken)
		if pools, problems := names(d.load(false)); pools != "a" || problems != "" {
			t.Errorf("pools %q, problems %q, want a and no problem of it", pools, problems)
		}
	})
	t.Run("config_that_is_gone_keeps_the_former", func(t *testing.T) {
		d := configured(t, "[defaults]\nengine = \"llamacpp\"\n", "model = \"file:/srv/a.gguf\"\ndevices = [0]\n")
		d.load(false)
		remove(t, d.o.configFile)
		if got := d.load(false); got.HostInvalid || len(got.HostProblems) != 1 || len(got.Pools) != 1 {
			t.Errorf("%+v", got)
		}
		after := restarted(d)
		if got := after.load(false); !got.HostInvalid || len(got.HostProblems) != 1 || len(got.Problems) != 0 {
			t.Errorf("after a restart: %+v", got)
		}
		if got := after.load(true); got.HostInvalid || len(got.HostProblems) != 0 || len(got.Problems) != 1 {
			t.Errorf("accepted, with a pool that has no engine now: %+v", got)
		}
	})
	t.Run("pools_that_are_gone_are_not_removed", func(t *testing.T) {
		d := configured(t, "", good)
		d.load(false)
		remove(t, d.o.poolsDir)
		for range 2 { // the second time after a restart
			got := d.load(false)
			if pools, _ := names(got); pools != "" || len(got.Problems) != 1 || got.Problems[0].PoolID != "" {
				t.Errorf("pools %q, problems %+v", pools, got.Problems)
			}
			d = restarted(d)
		}
		if got := d.load(true); len(got.Problems) != 0 || len(got.Pools) != 0 {
			t.Errorf("accepted: %+v", got)
		}
		if got := restarted(d).load(false); len(got.Problems) != 0 {
			t.Errorf("it stays accepted: %+v", got.Problems)
		}
	})
	// A pool that is in neither list would be taken as removed.
	t.Run("a_pool_that_is_wrong_by_the_former_config_is_not_lost", func(t *testing.T) {
		d := configured(t, "[defaults]\nargs = [\"--port\", \"1\"]\n", good)
		if pools, problems := names(d.load(false)); pools != "" || problems != "a" {
			t.Fatalf("pools %q, problems %q: --port is the manager's and should be wrong", pools, problems)
		}
		write(t, d.o.configFile, broken)
		if pools, problems := names(d.load(false)); pools != "" || problems != "a" {
			t.Errorf("pools %q, problems %q, want the problem of a as before", pools, problems)
		}
	})
}
