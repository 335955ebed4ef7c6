package hostconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/config"
)

const formerPool = "engine = \"vllm\"\nmodel = \"file:/srv/a.gguf\"\ndevices = [0]\n"

// TestFormer: what was there when the configuration was last read and is gone is a problem, and the
// record keeps missing it until it is back or the loss is accepted.
func TestFormer(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string)
		want string // the problem; empty: none
	}{
		{"nothing_happened", func(*testing.T, string) {}, ""},
		{"config_file_deleted", func(t *testing.T, dir string) { gone(t, dir+"/config.toml") },
			"config.toml: the file is gone; it was there"},
		{"config_file_emptied", func(t *testing.T, dir string) { must(t, os.Truncate(dir+"/config.toml", 0)) }, ""},
		{"config_file_a_dangling_link", func(t *testing.T, dir string) {
			gone(t, dir+"/config.toml")
			must(t, os.Symlink("/nowhere", dir+"/config.toml"))
		}, "config.toml: the file is a symbolic link to"},
		{"pools_deleted", func(t *testing.T, dir string) { gone(t, dir+"/pools.d") },
			"pools.d: the directory is gone; it had 2 pool files"},
		{"pools_moved_away", func(t *testing.T, dir string) { must(t, os.Rename(dir+"/pools.d", dir+"/pools.old")) },
			"pools.d: the directory is gone"},
		{"pools_a_dangling_link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/pools.d", dir+"/pools.old"))
			must(t, os.Symlink("/nowhere", dir+"/pools.d"))
		}, "pools.d: could not read the directory of pool files"},
		{"pools_replaced_by_an_empty_directory", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/pools.d", dir+"/pools.old"))
			must(t, os.Mkdir(dir+"/pools.d", 0o755))
		}, "pools.d: the directory is empty, and is not the one that had 2 pool files"},
		{"pools_deleted_and_made_again", func(t *testing.T, dir string) {
			gone(t, dir+"/pools.d")
			must(t, os.Mkdir(dir+"/pools.d", 0o755))
		}, "pools.d: the directory is empty, and is not the one that had 2 pool files"},
		{"pools_replaced_by_another_with_pools", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/pools.d", dir+"/pools.old"))
			must(t, os.Mkdir(dir+"/pools.d", 0o755))
			must(t, os.WriteFile(dir+"/pools.d/c.toml", []byte(formerPool), 0o644))
		}, ""},
		{"all_pool_files_removed", func(t *testing.T, dir string) {
			gone(t, dir+"/pools.d/a.toml")
			gone(t, dir+"/pools.d/b.toml")
		}, ""},
		{"both_gone", func(t *testing.T, dir string) {
			gone(t, dir+"/config.toml")
			gone(t, dir+"/pools.d")
		}, "config.toml: the file is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, pools := write(t, "[defaults]\nctx = 1024\n",
				map[string]string{"a.toml": formerPool, "b.toml": formerPool})
			dir, record := filepath.Dir(file), filepath.Join(t.TempDir(), FormerFile)
			read, former := Former{}.Load(file, pools, nil)
			if len(read.Problems) > 0 || len(read.Pools) != 2 {
				t.Fatalf("at first: %+v", read)
			}
			must(t, former.Write(record))
			c.do(t, dir)
			for range 2 { // as long as it is gone, also over a restart of the manager
				former, err := ReadFormer(record)
				must(t, err)
				read, next := former.Load(file, pools, &read.Host)
				says := messages(read.Problems)
				if !strings.Contains(says, c.want) || c.want == "" && says != "" {
					t.Errorf("problems %q, want %q", says, c.want)
				}
				if checked := messages(Check(file, pools, record)); (checked == "") != (c.want == "") {
					t.Errorf("check says %q", checked)
				}
				if strings.Contains(c.want, "config.toml: the file is gone") && read.SettingsGood {
					t.Error("the settings count as good")
				}
				must(t, next.Write(record))
			}
			// An administrator says that it is meant.
			read, next := Former{}.Load(file, pools, nil)
			must(t, next.Write(record))
			if says := messages(read.Problems); strings.Contains(says, "is gone") ||
				strings.Contains(says, "is empty") {
				t.Errorf("accepted, and yet: %s", says)
			}
			if says := messages(Check(file, pools, record)); strings.Contains(says, "is gone") {
				t.Errorf("accepted, and yet check says: %s", says)
			}
		})
	}
}

// TestFormerDefaultsAreKept: pools are checked against the settings that stay in force, not against
// the built-in ones.
func TestFormerDefaultsAreKept(t *testing.T) {
	file, pools := write(t, "[defaults]\nengine = \"vllm\"\n",
		map[string]string{"a.toml": "model = \"file:/srv/a.gguf\"\ndevices = [0]\n"})
	first, former := Former{}.Load(file, pools, nil)
	gone(t, file)
	kept, _ := former.Load(file, pools, &first.Host)
	if len(kept.Problems) != 1 || len(kept.Pools) != 1 || kept.Pools[0].Engine != "vllm" {
		t.Errorf("with the former settings: %+v", kept)
	}
	unknown, _ := former.Load(file, pools, nil)
	if len(unknown.Problems) != 1 || len(unknown.Pools) != 0 {
		t.Errorf("without settings pools cannot be checked: %+v", unknown)
	}
	if host := config.DefaultHost(); unknown.SettingsGood || !host.RequireGPU {
		t.Errorf("%+v", unknown)
	}
}

// TestReadFormer: a record that cannot be read is an error; none is no error.
func TestReadFormer(t *testing.T) {
	path := filepath.Join(t.TempDir(), FormerFile)
	if f, err := ReadFormer(path); err != nil || f != (Former{}) {
		t.Errorf("none: %+v, %v", f, err)
	}
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	if f, err := ReadFormer(path); err == nil || f != (Former{}) {
		t.Errorf("damaged: %+v, %v", f, err)
	}
}

// TestCheckReadsAsTheManager: a file that root reads by its capabilities alone is a problem, and so
// is one that its owner can read and root without capabilities cannot.
func TestCheckReadsAsTheManager(t *testing.T) {
	for _, c := range []struct {
		name  string
		close func(t *testing.T, dir string)
		want  string
	}{
		{"all_readable", func(*testing.T, string) {}, ""},
		{"config_of_another_user", func(t *testing.T, dir string) { owned(t, dir+"/config.toml", 0o600) }, "config.toml"},
		{"config_without_a_mode_bit", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/config.toml", 0)) }, "config.toml"},
		{"pool_file_of_another_user", func(t *testing.T, dir string) { owned(t, dir+"/pools.d/a.toml", 0o640) }, "a.toml"},
		{"of_another_user_for_all_to_read", func(t *testing.T, dir string) { owned(t, dir+"/pools.d/a.toml", 0o644) }, ""},
		{"link_into_a_closed_home", func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/home", 0o755))
			must(t, os.Rename(dir+"/pools.d/a.toml", dir+"/home/a.toml"))
			must(t, os.Symlink(dir+"/home/a.toml", dir+"/pools.d/a.toml"))
			owned(t, dir+"/home", 0o700)
		}, "a.toml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file to another user")
			}
			file, pools := write(t, "", map[string]string{"a.toml": formerPool})
			c.close(t, filepath.Dir(file))
			as := map[string][]Problem{
				"root":     Check(file, pools, "/none"),
				"its_user": unreadableForRoot(file, pools, nil),
			}
			for who, problems := range as {
				says := messages(problems)
				if c.want == "" && says != "" || !strings.Contains(says, c.want) ||
					c.want != "" && !strings.Contains(says, "permission denied") {
					t.Errorf("as %s: %q, want a problem with %q", who, says, c.want)
				}
			}
			// The rights were given up for the check alone.
			if _, err := os.ReadFile(file); err != nil {
				t.Error(err)
			}
		})
	}
}

func messages(problems []Problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Error())
	}
	return strings.Join(all, "\n")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	must(t, os.RemoveAll(path))
}

// owned gives a path to another user with that mode.
func owned(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	must(t, os.Chmod(path, mode))
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(fmt.Errorf("chown: %w", err))
	}
}
