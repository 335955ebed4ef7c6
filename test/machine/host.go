package machine

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

//go:embed host-packages.txt
var hostPackages string

// HostPackages are the Debian packages that the host needs, the lines of host-packages.txt.
func HostPackages() []string { return strings.Fields(hostPackages) }

// needTools returns an error with the command to run unless this process is root and all programs
// are installed.
func needTools(programs ...string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("test machines need root: run this as root (sudo)")
	}
	return findTools(programs...)
}

// findTools returns an error that names what to install unless all programs exist.
func findTools(programs ...string) error {
	for _, name := range programs {
		if _, err := lookTool(name); err != nil {
			return fmt.Errorf("%s is missing on this host: run apt-get install -y %s", name,
				strings.Join(HostPackages(), " "))
		}
	}
	return nil
}

// toolPath is the path of a program that needTools has found.
func toolPath(name string) string {
	path, err := lookTool(name)
	if err != nil {
		return name // the start reports it
	}
	return path
}

// lookTool finds a program on PATH or in the system folders, which are not on every user's PATH.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/bin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}
