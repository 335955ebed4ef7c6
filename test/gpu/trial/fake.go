package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fakePython is the virtual environment with the stand-in of PyTorch, where there is no GPU.
const fakePython = "/opt/torch/.venv/bin/python3"

// The fake driver as a service of the container. A real driver's engines reach it by device nodes,
// this one's by a socket below /run.
const fakeService = `[Unit]
Before=pool-gpu.service pool-managerd.service gputrial.service
[Service]
Type=exec
ExecStartPre=mknod -m 666 /dev/nvidia0 c 195 0
ExecStartPre=mknod -m 666 /dev/nvidia1 c 195 1
ExecStartPre=mknod -m 666 /dev/nvidiactl c 195 255
ExecStartPre=mknod -m 666 /dev/nvidia-uvm c 511 0
ExecStartPre=mknod -m 666 /dev/nvidia-uvm-tools c 511 1
ExecStart=` + Home + `/fake/bin/fakegpu serve --gpus 2 --vram 85899345920
ExecStartPost=/bin/sh -c 'until [ -e /run/fakegpu/take.sock ]; do sleep 0.02; done'
`

// fake lays the fake driver over the container's root, if the trial is one without a GPU.
func (c *container) fake(t Tools) error {
	if !t.Fake {
		return nil
	}
	libraries, err := filepath.Glob("/usr/lib*/*/libc.so.6")
	if err != nil || len(libraries) == 0 {
		return fmt.Errorf("where libraries are: %w", errors.Join(err, os.ErrNotExist))
	}
	link := filepath.Join(c.root, fakePython)
	packages := filepath.Join(filepath.Dir(filepath.Dir(fakePython)), "lib")
	if err := errors.Join(c.copyTree(t.Dir+"/fake", Home+"/fake"), c.copyTree(t.Dir+"/fake/lib",
		filepath.Dir(libraries[0])),
		c.copyTree(t.Dir+"/fake/smi", "/usr/local/bin"), os.MkdirAll(filepath.Dir(link), 0o755)); err != nil {
		return err
	}
	version, err := output(context.Background(), "/usr/bin/python3", "-c",
		"import sys; print('python%d.%d' % sys.version_info[:2])")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"usr/lib/systemd/system/fakegpu.service":                                    fakeService,
		"usr/lib/systemd/system/gputrial.service.d/fake.conf":                       "[Unit]\nWants=fakegpu.service\n",
		"etc/systemd/system/trial-.service.d/50-fakegpu.conf":                       fakeBind,
		"etc/systemd/system/pool-engine@.service.d/50-fakegpu.conf":                 fakeBind,
		filepath.Join(filepath.Dir(filepath.Dir(link)), "pyvenv.cfg")[len(c.root):]: "home = /usr/bin\n",
	} {
		file := filepath.Join(c.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text),
			0o644)); err != nil {
			return err
		}
	}
	return errors.Join(os.Symlink("/usr/bin/python3", link),
		c.copyTree(t.Dir+"/fake/python", filepath.Join(packages, strings.TrimSpace(version), "site-packages")))
}

const fakeBind = "[Service]\nBindPaths=-/run/fakegpu\n"

// startFake runs the fake driver on the host and lets this process and its children find it. The
// returned function ends it.
func startFake(ctx context.Context, t Tools) (func() error, error) {
	dir := filepath.Join(t.Out, "fakegpu")
	cmd := exec.CommandContext(ctx, filepath.Join(t.Dir, "fake/bin/fakegpu"), "serve", "--dir", dir, "--gpus",
		"2", "--vram", "85899345920")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() error { return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()) }
	err := errors.Join(os.Setenv("FAKENVML_DIR", dir), os.Setenv("LD_LIBRARY_PATH", t.Dir+"/fake/lib"))
	ready, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err = errors.Join(err, eventually(ready, 10*time.Millisecond, func() error {
		_, err := os.Stat(filepath.Join(dir, "take.sock"))
		return err
	})); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}
