package owner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestParse(t *testing.T) {
	const engine = "/pool.slice/pool-engines.slice/pool-engine@llama3\\x2d8b.r0.service"
	for _, c := range []struct {
		name, text string
		want       Group
	}{
		{"engine", "0::" + engine + "\n", Group{"pool-engine@llama3\\x2d8b.r0.service", engine, true}},
		{"engine_in_a_group_of_its_own", "0::" + engine + "/workers/3\n", Group{"pool-engine@llama3\\x2d8b.r0.service", engine, true}},
		{"container_of_an_engine", "0::" + engine + "/libpod-payload-1.scope\n", Group{"pool-engine@llama3\\x2d8b.r0.service", engine, true}},
		{"service", "0::/system.slice/cron.service\n", Group{"cron.service", "/system.slice/cron.service", false}},
		{"session", "0::/user.slice/user-1000.slice/session-4.scope\n", Group{"session-4.scope", "/user.slice/user-1000.slice/session-4.scope", false}},
		{"user_manager", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n",
			Group{"user@1000.service", "/user.slice/user-1000.slice/user@1000.service", false}},
		{"escaped_by_the_kernels_names", "0::/system.slice/_cgroup.service\n", Group{"cgroup.service", "/system.slice/_cgroup.service", false}},
		{"hybrid_host", "12:memory:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n",
			Group{"cron.service", "/system.slice/cron.service", false}},
		{"unified_goes_first", "1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n",
			Group{"b.service", "/system.slice/b.service", false}},
		{"root", "0::/\n", Group{}},
		{"plain_group", "0::/build/42\n", Group{}},
		{"outside_of_our_namespace", "0::/../../system.slice/cron.service\n", Group{}},
		{"only_a_slice", "0::/system.slice\n", Group{}},
		{"no_name", "0::/system.slice/.service\n", Group{}},
		{"colon_in_the_name", "0::/system.slice/a:b.service\n", Group{"a:b.service", "/system.slice/a:b.service", false}},
		{"empty", "", Group{}},
		{"nonsense", "hello", Group{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Parse(c.text); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0::/pool.slice/pool-engines.slice/pool-engine@a.r0.service\n")
	f.Add("1:name=systemd:/x.slice/a.scope/b\n0::/\n")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		g := Parse(text)
		switch {
		case g.Unit == "" && g != (Group{}):
			t.Errorf("no unit, but %+v", g)
		case g.Unit != "" && !strings.HasSuffix(g.Path, g.Unit):
			t.Errorf("path of another unit: %+v", g)
		case strings.Contains(g.Unit, "/"):
			t.Errorf("a unit's name has no slash: %+v", g)
		case g.Path != "" && !strings.Contains(text, g.Path):
			t.Errorf("path does not stand in the text: %+v", g)
		}
	}))
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/7/cgroup", "0::/a.slice/x.service\n")
	write("cgroup/cgroup.procs", "")
	write("cgroup/a.slice/x.service/cgroup.events", "populated 1\nfrozen 0\n")
	write("cgroup/a.slice/empty.service/cgroup.events", "populated 0\nfrozen 0\n")
	write("cgroup/a.slice/old.service/tasks", "")
	tree := Tree{Proc: filepath.Join(dir, "proc"), Mounts: []string{filepath.Join(dir, "cgroup")}}

	if got, want := tree.Of(7), (Group{Unit: "x.service", Path: "/a.slice/x.service"}); got != want {
		t.Errorf("process 7: got %+v, want %+v", got, want)
	}
	if got := tree.Of(8); got != (Group{}) {
		t.Errorf("a process that is gone: got %+v", got)
	}
	for pid, want := range map[int]bool{7: true, 8: false, 0: false, -7: false} {
		if got := tree.Lives(pid); got != want {
			t.Errorf("process %d lives: %t", pid, got)
		}
	}
	for _, c := range []struct {
		name, path string
		mounts     []string
		want       bool
	}{
		{"has_a_process", "/a.slice/x.service", tree.Mounts, true},
		{"is_empty", "/a.slice/empty.service", tree.Mounts, false},
		{"is_gone", "/a.slice/gone.service", tree.Mounts, false},
		{"first_version_tells_nothing", "/a.slice/old.service", tree.Mounts, true},
		{"no_tree_to_read", "/a.slice/gone.service", []string{filepath.Join(dir, "none")}, true},
		{"no_path", "", tree.Mounts, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Tree{Mounts: c.mounts}.Populated(Group{Unit: "x.service", Path: c.path})
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
