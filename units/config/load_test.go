package config

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

const goodPool = "engine = \"llamacpp\"\nmodel = \"file:/srv/a.gguf\"\ndevices = [0]\n"

// folder makes a folder of pool files by name and content.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func ids(s Set) []string {
	list := []string{}
	for _, p := range s.Pools {
		list = append(list, p.ID)
	}
	return list
}

// lines prints problems as messages have them, with the folder's name left out.
func lines(dir string, s Set) string {
	var b strings.Builder
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "%s [%s]\n", strings.ReplaceAll(p.Error(), dir+"/", ""), p.PoolID)
	}
	return b.String()
}

// expect compares what a folder yields; want is the problems, one a line with the pool in brackets.
func expect(t *testing.T, dir string, wantIDs []string, want string) Set {
	t.Helper()
	s := LoadPools(dir, DefaultHost())
	if got := ids(s); !slices.Equal(got, wantIDs) {
		t.Errorf("pools %v, want %v", got, wantIDs)
	}
	if got := lines(dir, s); got != strings.TrimLeft(want, "\n") {
		t.Errorf("problems:\n%swant:\n%s", got, want)
	}
	for _, p := range s.Problems {
		if p.Action() == "" {
			t.Errorf("no hint: %s", p.Error())
		}
	}
	return s
}

func TestLoadPools(t *testing.T) {
	t.Run("only_toml_files_that_are_not_hidden", func(t *testing.T) {
		dir := folder(t, map[string]string{
			"b.toml": goodPool, "a.toml": goodPool, ".a.toml": "x", ".a.toml.swp": "x", "a.toml~": "x", "a.toml.dpkg-new": "x",
			"a.toml.dpkg-old": "x", "#a.toml#": "x", "README": "x", "a.TOML": "x",
		})
		expect(t, dir, []string{"a", "b"}, "")
	})
	t.Run("a_missing_folder_is_a_note", func(t *testing.T) {
		s := LoadPools(filepath.Join(t.TempDir(), "none"), DefaultHost())
		if len(s.Pools) > 0 || len(s.Problems) > 0 || len(s.Notes) != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("an_empty_folder_is_no_pools", func(t *testing.T) { expect(t, t.TempDir(), []string{}, "") })
	t.Run("a_file_in_place_of_the_folder", func(t *testing.T) {
		file := filepath.Join(folder(t, map[string]string{"pools.d": ""}), "pools.d")
		s := LoadPools(file, DefaultHost())
		if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Message, "not a directory") ||
			s.Problems[0].Hint == "" {
			t.Errorf("%+v", s.Problems)
		}
	})
	t.Run("one_bad_file_leaves_the_others", func(t *testing.T) {
		dir := folder(t, map[string]string{"a.toml": goodPool, "b.toml": goodPool + "replicas = 0\nctx = true\n",
			"c.toml": goodPool})
		expect(t, dir, []string{"a", "c"}, `
b.toml:4:12: replicas is 0; want 1-64 [b]
b.toml:5:7: ctx is true; want an integer, 0-16777216 [b]
`)
	})
	t.Run("the_pool_that_a_bad_file_means", func(t *testing.T) {
		dir := folder(t, map[string]string{
			"a.toml":        "id = \"other\"\nctx = true\n" + goodPool,
			"b.toml":        "id = \"no good\"\n" + goodPool,
			"C.toml":        goodPool,
			"d.toml":        "id = \"deep\"\nctx = \n" + goodPool,
			"not good.toml": "id = \"\"\n" + goodPool,
		})
		expect(t, dir, []string{}, `
C.toml: the file's name cannot be the pool's id; want 1 to 63 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit []
a.toml:2:7: ctx is true; want an integer, 0-16777216 [other]
b.toml:1:6: id is "no good", which is not a valid id; want 1 to 63 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit [b]
d.toml:2:7: not TOML: unexpected character U+000A at start of value [deep]
not good.toml:1:6: id is "", which is not a valid id; want 1 to 63 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit []
`)
	})
	t.Run("the_same_id_twice_loads_neither", func(t *testing.T) {
		dir := folder(t, map[string]string{
			"a.toml": goodPool, "b.toml": goodPool + "id = \"a\"\n", "c.toml": "id = \"a\"\nctx = true\n" + goodPool, "d.toml": goodPool,
		})
		expect(t, dir, []string{"d"}, `
a.toml: id "a" is also that of b.toml, c.toml [a]
b.toml:4:6: id "a" is also that of a.toml, c.toml [a]
c.toml:1:6: id "a" is also that of a.toml, b.toml [a]
c.toml:2:7: ctx is true; want an integer, 0-16777216 [a]
`)
	})
	t.Run("a_file_that_cannot_be_read_claims_no_id", func(t *testing.T) {
		dir := folder(t, map[string]string{"a.toml": "=", "b.toml": goodPool + "id = \"a\"\n"})
		expect(t, dir, []string{"a"}, "a.toml:1:1: not TOML: invalid character at start of key: U+003D '=' [a]\n")
	})
	t.Run("overlapping_ports_load_neither", func(t *testing.T) {
		dir := folder(t, map[string]string{
			"a.toml": goodPool + "port = 8000\n", "c.toml": goodPool + "port = 8002\n",
			"b.toml": strings.Replace(goodPool, "[0]", "[[0], [1]]", 1) + "replicas = 2\nport = 7999\n",
		})
		expect(t, dir, []string{"c"}, `
a.toml:4:8: port 8000 overlaps the ports of b.toml [a]
b.toml:5:8: port 7999-8000 overlaps the ports of a.toml [b]
`)
	})
	t.Run("the_same_file_through_two_links", func(t *testing.T) {
		dir := folder(t, map[string]string{"a.toml": goodPool})
		if err := os.Symlink("a.toml", filepath.Join(dir, "b.toml")); err != nil {
			t.Fatal(err)
		}
		expect(t, dir, []string{"a", "b"}, "") // each has its own name, so each is a pool
	})
}

func TestNastyFiles(t *testing.T) {
	dir := folder(t, map[string]string{"good.toml": goodPool, "empty.toml": "", "binary.toml": "\x7fELF\x02\x01\x00",
		"latin1.toml": "# caf\xe9\n"})
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at(strings.Repeat("a", 200)+".toml"), []byte(goodPool), 0o644))
	must(os.WriteFile(at("with\nline.toml"), []byte(goodPool), 0o644))
	must(os.WriteFile(at("not\xffutf8.toml"), []byte(goodPool), 0o644))
	must(os.Mkdir(at("folder.toml"), 0o755))
	must(os.Symlink("loop.toml", at("loop.toml")))
	must(os.Symlink("circle2.toml", at("circle1.toml")))
	must(os.Symlink("circle1.toml", at("circle2.toml")))
	must(os.Symlink("/nowhere/at-all", at("dangling.toml")))
	must(os.Symlink("/dev/zero", at("device.toml")))
	must(os.Symlink("/", at("root.toml")))
	must(syscall.Mkfifo(at("pipe.toml"), 0o644))
	large, err := os.Create(at("large.toml"))
	must(err)
	must(large.Truncate(50 << 20))
	must(large.Close())

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := LoadPools(dir, DefaultHost())
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes were allocated, so the large file was read", used)
	}
	if got := ids(s); !slices.Equal(got, []string{"good"}) {
		t.Errorf("pools %v", got)
	}
	const rule = "; want 1 to 63 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit []\n"
	want := strings.Repeat("a", 200) + ".toml: the file's name cannot be the pool's id" + rule +
		`binary.toml:1:7: a NUL byte at offset 6; want text [binary]
circle1.toml: the file cannot be read: its symbolic links form a loop, or there are too many [circle1]
circle2.toml: the file cannot be read: its symbolic links form a loop, or there are too many [circle2]
dangling.toml: the file is a symbolic link to "/nowhere/at-all", which does not exist [dangling]
device.toml: this is a device; want a regular file [device]
empty.toml: the file is empty; want a pool [empty]
folder.toml: this is a directory; want a regular file [folder]
large.toml: the file has 50M; want at most 1M [large]
latin1.toml:1:6: byte 0xe9 at offset 5 is not UTF-8; want UTF-8 text [latin1]
loop.toml: the file cannot be read: its symbolic links form a loop, or there are too many [loop]
"DIR/not\xffutf8.toml": the file's name cannot be the pool's id` + rule +
		`pipe.toml: this is a named pipe; want a regular file [pipe]
root.toml: this is a directory; want a regular file [root]
"DIR/with\nline.toml": the file's name cannot be the pool's id` + rule
	if got := lines(dir, s); got != strings.ReplaceAll(want, "DIR/", "") {
		t.Errorf("problems:\n%swant:\n%s", got, want)
	}
}

// TestUnreadable runs itself as an ordinary user, since root reads everything.
func TestUnreadable(t *testing.T) {
	if dir := os.Getenv("TEST_UNREADABLE"); dir != "" {
		os.Stdout.WriteString(lines(dir, LoadPools(dir, DefaultHost())) +
			lines(dir, LoadPools(dir+"/closed", DefaultHost())))
		os.Exit(0)
	}
	dir := folder(t, map[string]string{"a.toml": goodPool, "b.toml": goodPool})
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Dir(dir): 0o755, dir + "/b.toml": 0, dir +
		"/closed": 0} {
		if strings.HasSuffix(path, "closed") {
			if err := os.Mkdir(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The test's own program may lie where that user cannot look.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestUnreadable$")
	cmd.Env, cmd.Dir = []string{"TEST_UNREADABLE=" + dir, "GOCOVERDIR=" + os.TempDir()}, "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "b.toml: the file cannot be read: permission denied [b]\n" +
		"closed: could not read the directory of pool files: permission denied []\n"
	if string(out) != want {
		t.Errorf("got:\n%swant:\n%s", out, want)
	}
}

// TestFiveHundredPools stands for a host with many: no cap, and no more than linear work.
func TestFiveHundredPools(t *testing.T) {
	files := make(map[string]string, 500)
	for i := range 500 {
		files[fmt.Sprintf("pool-%03d.toml", i)] = goodPool + fmt.Sprintf("port = %d\n", 20000+i)
	}
	s := LoadPools(folder(t, files), DefaultHost())
	if len(s.Pools) != 500 || len(s.Problems) > 0 {
		t.Fatalf("%d pools, problems %v", len(s.Pools), s.Problems)
	}
	if s.Pools[0].ID != "pool-000" || s.Pools[499].ID != "pool-499" || s.Pools[7].Port != 20007 {
		t.Errorf("first %+v", s.Pools[0])
	}
}

// TestDefaultsReachPools shows what a file takes from [defaults] and what it keeps for itself.
func TestDefaultsReachPools(t *testing.T) {
	h := DefaultHost()
	h.Defaults.Engine = "vllm"
	h.Defaults.Env = map[string]string{"A": "host", "B": "host"}
	h.Defaults.Args = []string{"--host-flag"}
	h.Defaults.Health.Interval = 20 * time.Second
	h.Defaults.Limits.MemoryHighBytes = 8 << 30
	h.Defaults.Limits.MemoryMaxBytes = 9 << 30
	one, problems := ParsePool("one.toml", []byte("model = \"file:/srv/a\"\n[env]\nB = \"pool\"\nC = "+
		"\"pool\"\n[limits]\nmemory_max = \"4G\"\n"), h)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	two, problems := ParsePool("two.toml", []byte("model = \"file:/srv/b\"\nargs = []\nengine = \"llamacpp\"\n"), h)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := `Args: []string{"--host-flag"}
Devices: [][]string{[]string{}}
Engine: "vllm"
Env: map[string]string{"A":"host", "B":"pool", "C":"pool"}
Health.Interval: 20s
ID: "one"
Limits.MemoryHighBytes: 0x100000000
Limits.MemoryMaxBytes: 0x100000000
Model: "file:/srv/a"
Source: "one.toml"
`
	if got := strings.Join(differences(*one, builtin()), ""); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if two.Engine != "llamacpp" || len(two.Args) != 0 || two.Env["B"] != "host" || h.Defaults.Env["C"] != "" {
		t.Errorf("two %+v, defaults %+v", two, h.Defaults)
	}
	t.Run("a_limit_of_the_host_is_not_passed_by_the_other_key", func(t *testing.T) {
		_, problems := ParsePool("c.toml", []byte("model = \"file:/srv/a\"\nlimits.memory_high = \"10G\"\n"), h)
		if len(problems) != 1 || problems[0].Error() != "c.toml:2:22: limits.memory_high is 10G and "+
			"limits.memory_max is 9G; want limits.memory_high at most limits.memory_max" {
			t.Errorf("%v", problems)
		}
	})
}

// isReference reports whether a model is a path of this host, or a reference to another that is
// written in its own form.
func isReference(m pool.Model) bool {
	r, err := modelref.Parse(string(m))
	return strings.HasPrefix(string(m), "file:/") || err == nil && r.Remote() && r.String() == string(m)
}

// FuzzParsePool holds the promise that callers build on: a problem means no pool, and the reverse;
// and what is a pool keeps its invariants.
func FuzzParsePool(f *testing.F) {
	cases, err := filepath.Glob(filepath.Join("testdata", "pool", "*.txt"))
	if err != nil || len(cases) == 0 {
		f.Fatal(err)
	}
	for _, path := range cases {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		input, _ := golden.Split(string(content))
		f.Add([]byte(input))
	}
	f.Fuzz(mutate.Many(func(t *testing.T, data []byte) {
		p, problems := ParsePool("fuzz.toml", data, DefaultHost())
		if (p == nil) != (len(problems) > 0) {
			t.Fatalf("pool %+v with problems %v", p, problems)
		}
		if p == nil {
			return
		}
		if !pool.ValidID(p.ID) || p.Replicas < 1 || len(p.Devices) != p.Replicas ||
			p.Health.Timeout > p.Health.Interval ||
			p.Restart.Initial > p.Restart.Max || p.Restart.Factor < 1 || p.Port+p.Replicas > maxPort+1 ||
			p.Engine != engine.Program && !isReference(p.Model) {
			t.Errorf("an invariant is broken: %+v", p)
		}
		again, _ := ParsePool("fuzz.toml", data, DefaultHost())
		if diff := differences(*again, *p); len(diff) > 0 {
			t.Errorf("read twice, it differs: %v", diff)
		}
	}))
}
