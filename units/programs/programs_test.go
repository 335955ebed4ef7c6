package programs

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// needs are those of a test case, without what every program of the system has.
func needs(n Needs) (programs, libraries string) {
	outside := func(list []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(list), func(p string) bool {
			return within(p, []string{"/usr/bin", "/bin", "/usr/lib", "/usr/lib64", "/lib", "/lib64"})
		}), " ")
	}
	return outside(n.Programs), outside(n.Libraries)
}

func missing(n Needs) string {
	var all []string
	for _, m := range n.Missing {
		s := fmt.Sprintf("%s for %s", m.Name, m.By)
		if len(m.Searched) > 0 {
			s += " in " + strings.Join(m.Searched, ":")
		}
		if m.Closed != "" {
			s += " closed " + m.Closed
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

// What llama-server of Homebrew needs.
const (
	brew         = "/home/linuxbrew/.linuxbrew/"
	brewPrograms = brew + "bin/llama-server " + brew + "Cellar/llama.cpp/7/bin/llama-server"

	brewLibraries = brew + "lib/ld.so " + brew + "lib/libllama.so " + brew + "Cellar/llama.cpp/7/lib/libllama.so " +
		brew + "opt/ggml/lib/libggml.so.0 " + brew + "Cellar/ggml/1/lib/libggml.so.0"
)

// TestResolve: a program is resolved as the kernel and ld.so(8) do it, in the layouts that people
// install engines in.
func TestResolve(t *testing.T) {
	needsGGML := library{interp: loader, needed: []string{"libggml.so.0", "libc.so.6"}}
	with := func(l library, change func(*library)) library { change(&l); return l }
	cases := []struct {
		name      string
		setup     func(d disk)
		program   string
		env       map[string]string
		programs  string
		libraries string
		missing   string
	}{
		{"of_the_system", func(d disk) { d.elf("/usr/bin/llama-server", library{interp: loader, needed: []string{"libc.so.6"}}) },
			"/usr/bin/llama-server", nil, "", "", ""},
		{"link_into_a_build", func(d disk) {
			d.elf("/opt/llama.cpp/build/bin/llama-server", with(needsGGML, func(l *library) { l.runpath = "$ORIGIN" }))
			d.elf("/opt/llama.cpp/build/bin/libggml.so.0.1", library{})
			d.link("/opt/llama.cpp/build/bin/libggml.so.0", "libggml.so.0.1")
			d.link("/usr/local/bin/llama-server", "/opt/llama.cpp/build/bin/llama-server")
		}, "/usr/local/bin/llama-server", nil, "/usr/local/bin/llama-server /opt/llama.cpp/build/bin/llama-server",
			"/opt/llama.cpp/build/bin/libggml.so.0 /opt/llama.cpp/build/bin/libggml.so.0.1", ""},
		{"homebrew", func(d disk) {
			d.link(brew+"lib/ld.so", "/lib64/ld-linux-x86-64.so.2")
			d.elf(brew+"Cellar/llama.cpp/7/bin/llama-server", library{interp: brew + "lib/ld.so",
				needed: []string{"libllama.so", "libc.so.6"}, runpath: brew + "lib"})
			d.elf(brew+"Cellar/llama.cpp/7/lib/libllama.so", library{needed: []string{"libggml.so.0"},
				runpath: "$ORIGIN:" + brew + "opt/ggml/lib"})
			d.elf(brew+"Cellar/ggml/1/lib/libggml.so.0", library{})
			d.link(brew+"bin/llama-server", "../Cellar/llama.cpp/7/bin/llama-server")
			d.link(brew+"lib/libllama.so", "../Cellar/llama.cpp/7/lib/libllama.so")
			d.link(brew+"opt/ggml", "../Cellar/ggml/1")
		}, brew + "bin/llama-server", nil,
			brewPrograms, brewLibraries, ""},
		{"relative_link_behind_a_linked_folder", func(d disk) {
			d.elf("/srv/v2/libexec/e", library{interp: loader})
			d.link("/srv/v2/bin/e", "../libexec/e")
			d.link("/srv/cur", "v2")
		}, "/srv/cur/bin/e", nil, "/srv/cur/bin/e /srv/cur/libexec/e /srv/v2/libexec/e", "", ""},
		{"rpath_holds_for_the_libraries_of_libraries", func(d disk) {
			d.elf("/opt/e/bin/e", library{interp: loader, needed: []string{"liba.so"},
				rpath: "$ORIGIN/../lib"})
			d.elf("/opt/e/lib/liba.so", library{needed: []string{"libb.so"}})
			d.elf("/opt/e/lib/libb.so", library{})
		}, "/opt/e/bin/e", nil, "/opt/e/bin/e", "/opt/e/lib/liba.so /opt/e/lib/libb.so", ""},
		{"runpath_does_not", func(d disk) {
			d.elf("/opt/e/bin/e", library{interp: loader, needed: []string{"liba.so"},
				runpath: "${ORIGIN}/../lib", rpath: "/opt/e/lib"})
			d.elf("/opt/e/lib/liba.so", library{needed: []string{"libb.so"}})
			d.elf("/opt/e/lib/libb.so", library{})
		}, "/opt/e/bin/e", nil, "/opt/e/bin/e", "/opt/e/lib/liba.so", "libb.so for /opt/e/lib/liba.so"},
		{"by_environment", func(d disk) {
			d.elf("/opt/e/e", needsGGML)
			d.elf("/opt/l/libggml.so.0", library{})
		}, "/opt/e/e", map[string]string{"LD_LIBRARY_PATH": "/no/such:/opt/l"}, "/opt/e/e", "/opt/l/libggml.so.0", ""},
		{"by_the_cache", func(d disk) {
			d.elf("/opt/e/e", needsGGML)
			d.elf("/opt/cuda/lib/libggml.so.0", library{})
			now := cache(map[string]string{"libggml.so.0": "/opt/cuda/lib/libggml.so.0"})
			d.file("/etc/ld.so.cache", cacheOld+"\x00\x00\x00\x00\x00"+string(now), 0o644)
		}, "/opt/e/e", nil, "/opt/e/e", "/opt/cuda/lib/libggml.so.0", ""},
		{"a_library_for_another_machine_is_passed_over", func(d disk) {
			d.elf("/opt/e/e", with(needsGGML, func(l *library) { l.runpath = "/opt/a:/opt/b" }))
			d.elf("/opt/a/libggml.so.0", library{machine: elf.EM_AARCH64})
			d.elf("/opt/b/libggml.so.0", library{})
		}, "/opt/e/e", nil, "/opt/e/e", "/opt/b/libggml.so.0", ""},
		{"a_library_is_missing", func(d disk) {
			d.elf("/opt/e/e", with(needsGGML, func(l *library) { l.runpath = "$ORIGIN/lib:/opt/b" }))
		}, "/opt/e/e", nil, "/opt/e/e", "", "libggml.so.0 for /opt/e/e in /opt/e/lib:/opt/b"},
		{"a_library_is_closed", func(d disk) {
			d.elf("/opt/e/e", with(needsGGML, func(l *library) { l.runpath = "$ORIGIN" }))
			d.file("/opt/e/libggml.so.0", string(library{}.bytes()), 0o640)
		}, "/opt/e/e", nil, "/opt/e/e", "", "libggml.so.0 for /opt/e/e in /opt/e closed /opt/e/libggml.so.0"},
		{"without_a_cache_nothing_is_missing_for_certain", func(d disk) {
			d.elf("/opt/e/e", needsGGML)
			delete(d.MapFS, "etc/ld.so.cache")
		}, "/opt/e/e", nil, "/opt/e/e", "", ""},
		{"with_another_loader_neither", func(d disk) {
			d.elf("/opt/musl/ld-musl-x86_64.so.1", library{})
			d.elf("/opt/e/e", with(needsGGML, func(l *library) { l.interp = "/opt/musl/ld-musl-x86_64.so.1" }))
		}, "/opt/e/e", nil, "/opt/e/e", "/opt/musl/ld-musl-x86_64.so.1", ""},
		{"the_loader_is_missing", func(d disk) {
			d.elf("/opt/e/e", with(needsGGML, func(l *library) { l.interp = "/lib/ld-musl-x86_64.so.1" }))
		}, "/opt/e/e", nil, "/opt/e/e", "", "/lib/ld-musl-x86_64.so.1 for /opt/e/e"},
		{"relative_link_in_a_home_behind_a_link", func(d disk) {
			d.elf("/data/apps/e", library{interp: loader})
			d.link("/home/ann", "/data/ann")
			d.link("/data/ann/e", "../apps/e")
		}, "/home/ann/e", nil, "/home/ann/e /data/apps/e", "", ""},
		{"links_of_several_levels", func(d disk) {
			d.elf("/data/v2/bin/e", library{interp: loader})
			d.link("/home/ann", "/data/ann")
			d.link("/data/ann/e", "cur/e")
			d.link("/data/ann/cur", "../links/cur")
			d.link("/data/links/cur", "../v2/bin")
		}, "/home/ann/e", nil, "/home/ann/e /home/ann/cur/e /data/ann/cur/e /data/v2/bin/e", "", ""},
		{"above_a_folder_that_is_a_link", func(d disk) {
			d.elf("/data/v2/lib/e", library{interp: loader})
			d.link("/opt/bin", "/data/v2/bin")
			d.file("/data/v2/bin/x", "", 0o644)
			d.link("/opt/e", "bin/../lib/e")
		}, "/opt/e", nil, "/opt/e /data/v2/lib/e", "", ""},
		{"through_a_folder_that_leads_nowhere", func(d disk) { d.link("/opt/e", "no/../e2"); d.file("/opt/e2", "x", 0o755) },
			"/opt/e", nil, "", "", ""},
		{"dangling_behind_a_link", func(d disk) { d.link("/home/ann", "/data/ann"); d.link("/data/ann/e", "../gone/e") }, "/home/ann/e", nil, "", "", ""},
		{"links_in_a_loop", func(d disk) { d.link("/opt/a", "b"); d.link("/opt/b", "a") }, "/opt/a", nil, "", "", ""},
		{"neither_program_nor_script", func(d disk) { d.file("/opt/e", "hello", 0o755) }, "/opt/e", nil, "/opt/e", "", ""},
		{"not_there", func(disk) {}, "/opt/e", nil, "", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := host()
			c.setup(d)
			got := Resolve(d, c.program, c.env)
			programs, libraries := needs(got)
			if programs != c.programs {
				t.Errorf("programs %q, want %q", programs, c.programs)
			}
			if libraries != c.libraries {
				t.Errorf("libraries %q, want %q", libraries, c.libraries)
			}
			if m := missing(got); m != c.missing {
				t.Errorf("missing %q, want %q", m, c.missing)
			}
		})
	}
}

// TestScripts: what a script needs is its interpreter, and what it executes.
func TestScripts(t *testing.T) {
	engine := func(d disk) { d.elf("/opt/llama/bin/llama-server", library{interp: loader}) }
	bash := func(d disk) {
		engine(d)
		d.elf("/usr/bin/bash", library{interp: loader})
		d.elf("/bin/bash", library{interp: loader})
	}
	python := func(p string) func(disk) {
		return func(d disk) { d.elf(p, library{interp: loader}) }
	}
	conda := func(d disk) {
		bash(d)
		d.elf("/opt/conda/bin/python3", library{interp: loader})
		d.script("/opt/conda/bin/conda", "#!/opt/conda/bin/python3")
		d.file("/opt/conda/bin/activate", "x\n", 0o755)
		d.file("/opt/conda/conda-meta/history", "", 0o644)
		d.file("/opt/conda/etc/profile.d/conda.sh", "if true; then conda() { :; }; fi\n", 0o644)
		d.elf("/opt/conda/envs/x/bin/python3", library{interp: loader})
		d.script("/opt/conda/envs/x/bin/vllm", "#!/opt/conda/envs/x/bin/python3")
	}
	const condaNeeds = "/usr/local/bin/run /opt/conda/bin/conda /opt/conda/bin/python3 /opt/conda/envs/x/bin/python3 " +
		"/opt/conda/envs/x/bin/vllm"
	const long = "/home/ann/a-folder-with-a-long-name/venv/bin/python3"
	const found = "/usr/local/bin/run /opt/llama/bin/llama-server"
	cases := []struct {
		name     string
		setup    func(d disk)
		lines    []string
		programs string
		folders  string
		missing  string
	}{
		{"interpreter", python("/opt/venv/bin/python"), []string{"#!/opt/venv/bin/python -I"}, "/usr/local/bin/run /opt/venv/bin/python", "", ""},
		{"interpreter_missing", engine, []string{"#! /opt/no/python"}, "/usr/local/bin/run", "", "/opt/no/python for /usr/local/bin/run"},
		{"by_env", engine, []string{"#!/usr/bin/env python3"}, "/usr/local/bin/run", "", ""},
		{"by_env_with_options", python("/usr/local/bin/python9"), []string{"#!/usr/bin/env -S -i A=b python9 -u"}, "/usr/local/bin/run /usr/local/bin/python9", "", ""},
		{"by_env_missing", engine, []string{"#!/usr/bin/env python9"}, "/usr/local/bin/run", "",
			"python9 for /usr/local/bin/run in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
		{"launcher_of_pip", python(long), []string{"#!/bin/sh", `'''exec' "` + long + `" "$0" "$@"`, "' '''", "import sys # it's"}, "/usr/local/bin/run " + long, "", ""},
		{"launcher_of_pip_missing", engine, []string{"#!/bin/sh", `'''exec' "/home/a/python" "$0" "$@"`, "' '''"}, "/usr/local/bin/run", "", "/home/a/python for /usr/local/bin/run"},
		{"launcher_of_uv_that_can_be_moved", python("/usr/local/bin/python"), []string{"#!/bin/sh", `'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"`, "' '''"},
			"/usr/local/bin/run /usr/local/bin/python", "", ""},
		{"wrapper", engine, []string{"#!/bin/sh", "# starts the engine", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"without_exec", engine, []string{"#!/bin/sh", `mkdir -p /tmp/x; "/opt/llama/bin/llama-server" "$@"`}, found, "", ""},
		{"through_other_programs", engine, []string{"#!/bin/sh", `exec nice -n 5 env A=b taskset -c 0-3 /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"by_a_variable", engine, []string{"#!/bin/sh", "ROOT=/opt/llama", `exec "${ROOT}/bin/llama-server" "$@"`}, found, "", ""},
		{"with_a_default", engine, []string{"#!/bin/sh", `exec "${ROOT:-/opt/llama}"/bin/llama-server`}, found, "", ""},
		{"by_path", engine, []string{"#!/bin/sh", "export PATH=/opt/llama/bin:$PATH", `llama-server "$@"`}, found, "", ""},
		{"by_the_folder_it_changes_to", engine, []string{"#!/bin/bash", "#", "cd /opt/llama/bin || exit 1", `exec ./llama-server "$@"`}, "/usr/local/bin/run", "", "/bin/bash for /usr/local/bin/run"},
		{"by_the_folder_it_changes_to_in_sh", engine, []string{"#!/bin/sh", "cd /opt/llama/bin || exit 1", `exec ./llama-server "$@"`}, found, "", ""},
		{"beside_the_script", python("/usr/local/lib/e/e"), []string{"#!/bin/sh", `here=$(cd "$(dirname "$0")/.." && pwd)`, `exec "$here/lib/e/e"`}, "/usr/local/bin/run /usr/local/lib/e/e", "", ""},
		{"environment_of_python", python("/opt/venv/bin/vllm"), []string{"#!/bin/sh", ". /opt/venv/bin/activate", "exec vllm serve"}, "/usr/local/bin/run /opt/venv/bin/activate /opt/venv/bin/vllm", "", ""},
		{"file_that_it_reads", func(d disk) {
			engine(d)
			d.file("/opt/llama/env.sh", "SERVER=/opt/llama/bin/llama-server\n", 0o644)
		}, []string{"#!/bin/sh", "source /opt/llama/env.sh", "exec $SERVER"},
			"/usr/local/bin/run /opt/llama/env.sh /opt/llama/bin/llama-server", "", ""},
		{"search_paths", engine, []string{"#!/bin/sh", "export LD_LIBRARY_PATH=/opt/llama/bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}", `exec /opt/llama/bin/llama-server "$@"`}, found, "/opt/llama/bin", ""},
		{"in_a_branch", engine, []string{"#!/bin/sh", "if [ -x /opt/llama/bin/llama-server ]; then", "  exec /opt/llama/bin/llama-server", "fi", "exec /opt/no/such"}, found, "", ""},
		{"errors_to_its_output", engine, []string{"#!/bin/sh", "exec 2>&1", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"output_to_a_file_then_errors", engine, []string{"#!/bin/sh", "exec >/tmp/log 2>&1", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"errors_to_its_output_first", engine, []string{"#!/bin/sh", "exec 2>&1 >$LOG", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"over_a_file", engine, []string{"#!/bin/sh", "exec >|/tmp/log", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"closes_its_input", engine, []string{"#!/bin/sh", "exec <&-", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"both_to_a_file", engine, []string{"#!/bin/sh", "exec &>/tmp/log", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"by_a_named_descriptor", engine, []string{"#!/bin/sh", "exec {log}>/tmp/log", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"target_missing", engine, []string{"#!/bin/sh", "exec 2>/dev/null", "exec /opt/no/such"}, "/usr/local/bin/run", "", "/opt/no/such for /usr/local/bin/run"},
		{"by_a_variable_that_nothing_sets", engine, []string{"#!/bin/sh", "exec $WHERE/no/such"}, "/usr/local/bin/run", "", ""},
		{"in_the_home_of_the_engine", engine, []string{"#!/bin/sh", "exec $HOME/no/such"}, "/usr/local/bin/run", "", ""},
		{"target_closed", func(d disk) { d.file("/opt/e", "x", 0o644) }, []string{"#!/bin/sh", "exec /opt/e"}, "/usr/local/bin/run", "", "/opt/e for /usr/local/bin/run closed /opt/e"},
		{"nothing_after_its_end", engine, []string{"#!/bin/sh", "exec sleep 9", "exec /opt/llama/bin/llama-server"}, "/usr/local/bin/run", "", "sleep for /usr/local/bin/run in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
		{"text_that_names_it", engine, []string{"#!/bin/sh", "echo /opt/llama/bin/llama-server", `X="/opt/llama"`}, "/usr/local/bin/run", "", ""},
		{"bash_by_env_that_changes_its_folder_first", bash, []string{"#!/usr/bin/env bash", "set -euo pipefail",
			`cd "$(dirname "$0")/../../../opt/llama"`, `exec ./bin/llama-server "$@"`}, found, "", ""},
		{"under_another_name", bash, []string{"#!/bin/bash", `exec -a "$0" /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"wrapper_of_nix", bash, []string{"#! /bin/bash -e", "export LD_LIBRARY_PATH=/opt/llama/bin${LD_LIBRARY_PATH:+':'}$LD_LIBRARY_PATH",
			`exec -a "$0" "/opt/llama/bin/llama-server"  "$@"`}, found, "/opt/llama/bin", ""},
		{"its_arguments", engine, []string{"#!/bin/sh", `set -- /opt/llama/bin/llama-server "$@"`, `exec "$@"`}, found, "", ""},
		{"only_its_arguments", engine, []string{"#!/bin/sh", `exec "$@"`}, "/usr/local/bin/run", "", ""},
		{"env_with_options_of_the_shell", bash, []string{"#!/usr/bin/env -S bash -eu", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"env_with_variables_and_a_path", engine, []string{"#!/usr/bin/env -S LD_LIBRARY_PATH=/opt/llama/bin /opt/llama/bin/llama-server"}, found, "", ""},
		{"long_options_of_env", bash, []string{"#!/usr/bin/env --split-string=bash -e", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"options_of_env_in_one", bash, []string{"#!/usr/bin/env -iS bash -e", `exec /opt/llama/bin/llama-server "$@"`}, found, "", ""},
		{"launcher_of_uv_that_can_be_moved", func(d disk) {
			d.link("/usr/local/bin/run", "/opt/venv/bin/vllm")
			d.elf("/opt/venv/bin/python", library{interp: loader})
			d.script("/opt/venv/bin/vllm", "#!/bin/sh", `'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"`, "' '''", "from vllm import main")
		}, nil, "/usr/local/bin/run /opt/venv/bin/vllm /opt/venv/bin/python", "", ""},
		{"conda_by_its_hook", conda, []string{"#!/bin/bash", `eval "$(/opt/conda/bin/conda shell.bash hook)"`, "conda activate x", `exec vllm serve "$@"`}, condaNeeds, "", ""},
		{"conda_by_its_profile", conda, []string{"#!/bin/bash", "source /opt/conda/etc/profile.d/conda.sh", "conda activate x", "exec vllm"},
			"/usr/local/bin/run /opt/conda/etc/profile.d/conda.sh" + strings.TrimPrefix(condaNeeds, "/usr/local/bin/run"), "", ""},
		{"conda_by_a_folder", conda, []string{"#!/bin/bash", ". /opt/conda/bin/activate /opt/conda/envs/x", "exec vllm"}, "/usr/local/bin/run /opt/conda/bin/activate" +
			strings.TrimPrefix(condaNeeds, "/usr/local/bin/run"), "", ""},
		{"programs_of_a_folder_that_a_command_prints", engine, []string{"#!/bin/sh", `export PATH="$(brew --prefix)/bin:$PATH"`, "exec vllm"}, "/usr/local/bin/run", "", ""},
		{"libraries_of_a_folder_that_a_command_prints", func(d disk) { d.elf("/opt/e", library{interp: loader, needed: []string{"libno.so"}}) },
			[]string{"#!/bin/sh", "LD_LIBRARY_PATH=$(nvcc --where)/lib", "export LD_LIBRARY_PATH", "exec /opt/e"}, "/usr/local/bin/run /opt/e", "/lib", ""},
		{"after_a_file_in_the_path", bash, []string{"#!/bin/bash", "source activate x", "exec vllm"}, "/usr/local/bin/run", "", ""},
		{"after_a_file_of_a_home", bash, []string{"#!/bin/bash", `source "$HOME/.bashrc"`, "source ~/venv/bin/activate", "exec vllm"}, "/usr/local/bin/run", "", ""},
		{"after_a_file_that_is_not_there", bash, []string{"#!/bin/bash", "source /opt/no/env.sh", "exec vllm"}, "/usr/local/bin/run", "", ""},
		{"conda_that_is_nowhere", engine, []string{"#!/bin/sh", "conda activate x", "exec vllm"}, "/usr/local/bin/run", "", ""},
		{"executes_itself", engine, []string{"#!/bin/sh", "exec /usr/local/bin/run"}, "/usr/local/bin/run", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := host()
			c.setup(d)
			if c.lines != nil {
				d.script("/usr/local/bin/run", c.lines...)
			}
			got := Resolve(d, "/usr/local/bin/run", nil)
			if programs, _ := needs(got); programs != c.programs {
				t.Errorf("programs %q, want %q", programs, c.programs)
			}
			if folders := strings.Join(got.Folders, " "); folders != c.folders {
				t.Errorf("folders %q, want %q", folders, c.folders)
			}
			if m := missing(got); m != c.missing {
				t.Errorf("missing %q, want %q", m, c.missing)
			}
		})
	}
}

// TestGuesses: what a script may not come to is shown, and neither required nor missing.
func TestGuesses(t *testing.T) {
	d := host()
	lacking := library{interp: loader, needed: []string{"libno.so"}}
	d.elf("/opt/old/e", lacking)
	d.elf("/opt/new/e", lacking)
	d.script("/opt/branch", "#!/bin/sh", "if [ -x /opt/old/e ]; then exec /opt/old/e; fi", "exec /opt/new/e")
	d.script("/opt/straight", "#!/bin/sh", "exec /opt/new/e")
	for program, certain := range map[string]bool{"/opt/branch": false, "/opt/straight": true} {
		got := Resolve(d, program, nil)
		if !slices.Contains(got.Programs, "/opt/new/e") {
			t.Errorf("%s: programs %q", program, got.Programs)
		}
		if slices.Contains(got.Certain, "/opt/new/e") != certain || (len(got.Missing) > 0) != certain {
			t.Errorf("%s: certain %q, missing %q", program, got.Certain, missing(got))
		}
	}
}

// TestAround: what a program finds by its own path.
func TestAround(t *testing.T) {
	cases := []struct {
		name    string
		setup   func(d disk)
		program string
		want    string
	}{
		{"its_folder", func(d disk) { d.script("/srv/e/e") }, "/srv/e/e", "/srv/e"},
		{"prefix", func(d disk) { d.script("/srv/e/bin/e"); d.file("/srv/e/lib64/x.so", "", 0o644) }, "/srv/e/bin/e", "/srv/e/bin /srv/e/lib64"},
		{"keg", func(d disk) { d.script("/b/Cellar/ggml/1/bin/e"); d.file("/b/Cellar/ggml/1/libexec/x.so", "", 0o644) },
			"/b/Cellar/ggml/1/bin/e", "/b/Cellar/ggml/1"},
		{"conda", func(d disk) {
			d.script("/srv/conda/envs/x/bin/e")
			d.file("/srv/conda/envs/x/conda-meta/history", "", 0o644)
		},
			"/srv/conda/envs/x/bin/e", "/srv/conda/envs/x"},
		{"environment_of_uv", func(d disk) {
			d.script("/home/ann/.venv/bin/vllm")
			d.file("/home/ann/.venv/pyvenv.cfg", "home = /home/ann/.local/share/uv/python/3/bin\nuv = 0.9\n", 0o644)
			d.file("/home/ann/.local/share/uv/python/3.12.1/bin/python3", "", 0o755)
			d.file("/home/ann/.local/share/uv/python/3.12.1/lib/python3.12/os.py", "", 0o644)
			d.link("/home/ann/.local/share/uv/python/3", "3.12.1")
		}, "/home/ann/.venv/bin/vllm",
			"/home/ann/.venv /home/ann/.local/share/uv/python/3/bin /home/ann/.local/share/uv/python/3/lib"},
		{"installation_that_can_be_edited", func(d disk) {
			d.script("/srv/v/bin/vllm")
			d.file("/srv/v/pyvenv.cfg", "home=/usr/bin\n", 0o644)
			d.file("/srv/v/lib/python3.12/site-packages/__editable__.vllm.pth",
				"import x; y()\n/srv/src/vllm\n/no/such\nrelative\n", 0o644)
			d.file("/srv/src/vllm/vllm/__init__.py", "", 0o644)
		}, "/srv/v/bin/vllm", "/srv/v /srv/src/vllm /usr/bin /usr/lib /usr/lib64"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := host()
			c.setup(d)
			if got := strings.Join(Around(d, c.program), " "); got != c.want {
				t.Errorf("Around = %q, want %q", got, c.want)
			}
		})
	}
}

// TestUserBase: the modules of pip's --user and --prefix are found by the Python of the system only
// if a variable names the folder.
func TestUserBase(t *testing.T) {
	const site = "/home/ann/.local/lib/python3.13/site-packages/vllm/__init__.py"
	for _, c := range []struct {
		name, script string
		setup        func(d disk)
		want         string
	}{
		{"user", "/home/ann/.local/bin/vllm", func(d disk) { d.file(site, "", 0o644) }, "/home/ann/.local"},
		{"by_a_link", "/usr/local/bin/vllm", func(d disk) {
			d.file(site, "", 0o644)
			d.script("/home/ann/.local/bin/vllm", "#!/usr/bin/python3")
			d.link("/usr/local/bin/vllm", "/home/ann/.local/bin/vllm")
		}, "/home/ann/.local"},
		{"modules_of_another_python", "/home/ann/.local/bin/vllm", func(d disk) {
			d.file("/home/ann/.local/lib/python3.11/site-packages/vllm/__init__.py", "", 0o644)
		}, ""},
		{"environment", "/srv/v/bin/vllm", func(d disk) {
			d.file("/srv/v/lib/python3.13/site-packages/vllm/__init__.py", "", 0o644)
			d.file("/srv/v/pyvenv.cfg", "home = /usr/bin\n", 0o644)
		}, ""},
		{"python_of_its_own", "/srv/v/bin/vllm", func(d disk) {
			d.file("/srv/v/lib/python3.13/site-packages/vllm/__init__.py", "", 0o644)
			d.elf("/srv/v/bin/python3", library{interp: loader})
		}, ""},
		{"no_bin", "/home/ann/vllm/vllm", func(d disk) { d.file("/home/lib/python3.13/site-packages/x", "", 0o644) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := host()
			d.elf("/usr/bin/python3.13", library{interp: loader})
			d.link("/usr/bin/python3", "python3.13")
			c.setup(d)
			if c.name != "by_a_link" {
				d.script(c.script, "#!/usr/bin/python3")
			}
			if got := UserBase(d, Resolve(d, c.script, nil)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestBounds: a file system that leads nowhere ends, and proves nothing.
func TestBounds(t *testing.T) {
	d := host()
	var dirs []string
	for i := range 1000 {
		dirs = append(dirs, fmt.Sprintf("/opt/%d", i))
	}
	l := library{interp: loader, runpath: strings.Join(dirs, ":")}
	for i := range 400 {
		l.needed = append(l.needed, fmt.Sprintf("lib%d.so", i))
	}
	d.elf("/opt/e", l)
	lines := []string{"#!/bin/sh"}
	for range maxCommands {
		lines = append(lines, "PATH+=:/opt/e:$PATH", "x")
	}
	d.script("/opt/grows", lines...)
	Resolve(d, "/opt/grows", nil) // in memory and time that a test has
	got := Resolve(d, "/opt/e", nil)
	if n := len(got.Missing); n > 64 {
		t.Errorf("%d are missing", n)
	}
	for _, m := range got.Missing {
		if len(m.Searched) > maxFolders {
			t.Errorf("%d folders for %s", len(m.Searched), m.Name)
		}
	}
}
