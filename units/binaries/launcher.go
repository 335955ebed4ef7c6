package binaries

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// launcher are programs by which people start an engine, and which cannot do so in an engine's
// unit.
type launcher struct {
	names []string
	why   string // continues the program's name
	hint  func(binary, name string) string
}

func launchers() []launcher {
	inScript := func(text string) func(string, string) string {
		return func(binary, name string) string {
			return text + " Where it is: grep -n " + shell.Quote(name) + " " + shell.Quote(binary)
		}
	}
	return []launcher{
		{[]string{"snap"}, "starts programs with root's rights in namespaces of their own, which an engine's sandbox " +
			"forbids",
			func(binary, _ string) string {
				name, _, _ := strings.Cut(path.Base(binary), ".")
				return "Name the program itself, or install the engine without snap: find /snap/" + shell.Quote(name) +
					"/current/ -type f -perm -1"
			}},
		{[]string{"flatpak", "apptainer", "singularity", "distrobox", "toolbox", "distrobox-enter"},
			"makes namespaces of its own, which an engine's sandbox forbids (RestrictNamespaces=)",
			inScript("Install the engine without it, as an archive, by pip or in an image.")},
		{[]string{"docker", "podman", "nerdctl", "docker-compose", "podman-compose"},
			"starts the engine in a container, whose processes are not those of the pool's unit",
			inScript(`Name the image instead: [provisioning] mode = "container" and image.`)},
		{[]string{"sudo", "su", "doas", "pkexec", "runuser", "gosu", "su-exec"},
			"becomes another user, which an engine's sandbox forbids (NoNewPrivileges=)",
			inScript("Leave it out: an engine runs as a user of its own.")},
		{[]string{"systemd-run", "systemctl", "machinectl", "systemd-nspawn"},
			"has the engine run outside of the pool's unit",
			inScript("Name the engine's program itself: the manager has PID 1 run it.")},
	}
}

// shimmed are programs that choose among installed versions, and have a folder of one link or
// script for each command.
var shimmed = []string{"pyenv", "asdf", "mise", "rtx", "rbenv", "nodenv", "goenv", "jenv"}

// Launched returns why a pool's binary, which is or certainly executes the given programs, cannot
// start its engine; nil: it may. env are the variables that the programs are executed with.
func Launched(binary string, executes []string, env map[string]string) *registry.Failure {
	fail := func(hint, format string, args ...any) *registry.Failure {
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf(format, args...), hint)
	}
	for _, p := range executes {
		at := "binary " + binary
		if p != binary {
			at += " executes " + p + ", which"
		}
		if by := shimOf(p); by != "" {
			return fail(fmt.Sprintf("Name the program that it stands for, which its user finds by: %s which %s", by,
				shell.Quote(path.Base(p))),
				"%s is a shim of %s, which looks for a version in the home and the folder of who calls it: "+
					"an engine has others", at, by)
		}
		for _, l := range launchers() {
			if name := path.Base(p); slices.Contains(l.names, name) {
				return fail(l.hint(binary, name), "%s %s", at, l.why)
			}
		}
		if head, err := start(p); err == nil && appImage(head) && env[appImageExtracts] == "" {
			return fail(fmt.Sprintf("Unpack it, and name the program in it as [provisioning] binary: cd %s && %s "+
				"--appimage-extract && ls -l squashfs-root", shell.Quote(path.Dir(p)), shell.Quote(p)),
				"%s is an AppImage, which mounts itself by FUSE when it starts: an engine's sandbox forbids that", at)
		}
	}
	return nil
}

// shimOf returns what a path is a shim of, "…/.pyenv/shims/vllm"; "": of nothing.
func shimOf(p string) string {
	dir := path.Dir(p)
	by := strings.TrimPrefix(path.Base(path.Dir(dir)), ".")
	if path.Base(dir) == "shims" && slices.Contains(shimmed, by) {
		return by
	}
	return ""
}

// appImageExtracts is the variable by which an AppImage unpacks itself to /tmp at each start, and
// mounts nothing.
const appImageExtracts = "APPIMAGE_EXTRACT_AND_RUN"

// appImage reports whether a file that begins so is an AppImage of type 1 or 2: an ELF file with
// those letters in the padding of its identification.
func appImage(head string) bool {
	return len(head) > 10 && head[8:10] == "AI" && (head[10] == 1 || head[10] == 2)
}
