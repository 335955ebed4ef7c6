package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Tools are the programs that a trial uses, by path; empty: the host has none.
type Tools struct {
	Dir    string // of the bundle: bin/, share/, root/
	Out    string // where results go
	Python string // one that imports torch
	NVCC   string
	SMI    string // nvidia-smi
	Llama  string // llama-server, with CUDA
	CUDA   string // directory of the compiled share/cuda.cu programs
	Fake   bool   // the GPUs are those of the fake library
}

// Find finds the tools of this host.
func Find(ctx context.Context, dir, out string, fake bool) Tools {
	t := Tools{Dir: dir, Out: out, Fake: fake, CUDA: filepath.Join(out, "cuda")}
	t.SMI = program("nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")
	t.Llama = program(os.Getenv("LLAMA_SERVER"), "llama-server")
	t.NVCC = program("nvcc", "/usr/local/cuda/bin/nvcc")
	for _, p := range []string{os.Getenv("PYTHON"), "python3", "/opt/torch/.venv/bin/python3",
		"/opt/venv/bin/python3"} {
		if p = program(p); p != "" && exec.CommandContext(ctx, p, "-c", "import torch").Run() == nil {
			t.Python = p
			break
		}
	}
	return t
}

// program returns the first of these that can be executed, as an absolute path. Links are kept: the
// python3 of a virtual environment is one.
func program(names ...string) string {
	for _, n := range names {
		if n == "" {
			continue
		}
		if p, err := exec.LookPath(n); err == nil {
			if p, err = filepath.Abs(p); err == nil {
				return p
			}
		}
	}
	return ""
}

// bin returns the path of a program of the bundle.
func (t Tools) bin(name string) string { return filepath.Join(t.Dir, "bin", name) }

// engine returns the path of the PyTorch program.
func (t Tools) engine() string { return filepath.Join(t.Dir, "share", "engine.py") }

// output runs a program and returns what it wrote to standard output; an error has the end of all
// its output.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err,
			lastLine(stderr.String()+"\n"+stdout.String()))
	}
	return stdout.String(), nil
}

// lastLine returns the last line that is not empty, cut to a length for a table.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if len(last) > 240 {
		last = last[:240] + "…"
	}
	return last
}

// compile compiles the CUDA program of the bundle: once as machine code of this GPU, and once as
// PTX alone, which the driver compiles when it runs.
func (t Tools) compile(ctx context.Context) error {
	if t.NVCC == "" {
		return errors.New("no nvcc on this host")
	}
	if err := os.MkdirAll(t.CUDA, 0o755); err != nil {
		return err
	}
	source := filepath.Join(t.Dir, "share", "cuda.cu")
	for name, args := range map[string][]string{
		"cuda-native": {"-arch=native"},
		"cuda-ptx":    {"-gencode", "arch=compute_75,code=compute_75"},
	} {
		args = append(args, "-cudart", "static", "-o", filepath.Join(t.CUDA, name), source)
		if _, err := output(ctx, t.NVCC, args...); err != nil {
			return err
		}
	}
	return nil
}

// pollPause is the time between two looks at something that takes seconds.
const pollPause = 50 * time.Millisecond

// atOnce is how many processes of CUDA run at the same time: each uses a processor, half a GiB of
// the GPU and a few GiB of main memory.
func (t Tools) atOnce() int { return min(max(runtime.NumCPU()-2, 2), 14) }

// eventually calls f until it returns nil or ctx ends; the error is f's last one.
func eventually(ctx context.Context, pause time.Duration, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}
