package fakenvml

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed src
var source embed.FS

// SOName is the name under which programs load the library.
const SOName = "libnvidia-ml.so.1"

// Build compiles the library into dir and returns its path. old leaves out the calls that drivers
// before 470 lack. It needs a C compiler, and NVML's header out of the module go-nvml.
func Build(ctx context.Context, dir string, old bool) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		return "", fmt.Errorf("where NVML's header is: %w", err)
	}
	if err := os.CopyFS(dir, source); err != nil {
		return "", err
	}
	files, err := fs.Glob(source, "src/*.c")
	if err != nil {
		return "", err
	}
	library := filepath.Join(dir, SOName)
	args := []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-DNVML_NO_UNVERSIONED_FUNC_DEFS=1",
		"-I", filepath.Join(strings.TrimSpace(string(out)), "pkg", "nvml"), "-Wl,-soname," + SOName,
		"-Wl,--version-script=" + filepath.Join(dir, "src", "exports.map"), "-o", library}
	if old {
		args = append(args, "-DFAKENVML_OLD")
	}
	for _, f := range files {
		args = append(args, filepath.Join(dir, f))
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if text, err := exec.CommandContext(ctx, cc, append(args, "-lpthread")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the fake NVML: %w\n%s", err, text)
	}
	return library, nil
}
