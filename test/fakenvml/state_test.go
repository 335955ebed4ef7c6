package fakenvml

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// reader is the library's own reader of the state, in a program that prints what it has read.
type reader struct {
	t   testing.TB
	dir string
	ask io.Writer
	out *bufio.Reader
}

// newReader compiles the reader with checks of its memory accesses and starts it on an empty
// directory.
func newReader(t testing.TB) *reader {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "probe")
	header, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		t.Fatal(err)
	}
	cc := exec.CommandContext(t.Context(), "cc", "-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-DNVML_NO_UNVERSIONED_FUNC_DEFS=1", "-I", filepath.Join(strings.TrimSpace(string(header)), "pkg", "nvml"),
		"-I", "src",
		"-o", program, "testdata/probe.c", "src/state.c", "-lpthread")
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Not the test's context: that ends before its last words, which say what a check found.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	probe := exec.CommandContext(ctx, program)
	probe.Env = append(os.Environ(), "FAKENVML_DIR="+dir)
	var stderr strings.Builder
	probe.Stderr = &stderr
	in, err := probe.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := probe.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := probe.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		in.Close()
		if err := probe.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("the reader ended with %v\n%s", err, stderr.String())
		}
	})
	return &reader{t, dir, in, bufio.NewReader(out)}
}

// read has the state read again.
func (r *reader) read() string {
	r.t.Helper()
	if _, err := io.WriteString(r.ask, "\n"); err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for {
		line, err := r.out.ReadString('\n')
		if err != nil {
			r.t.Fatalf("after %q: %v", b.String(), err)
		}
		if line == "end\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

func (r *reader) write(s State) {
	r.t.Helper()
	if err := s.Write(r.dir); err != nil {
		r.t.Fatal(err)
	}
}

// full has every line that there is, and as much of everything as the library takes.
func full() State {
	s := Default(16, 80<<30)
	s.Hang, s.Latency, s.Init = "nvmlDeviceGetUUID", 250, 9
	for i := range s.GPUs {
		g := &s.GPUs[i]
		g.ECC, g.Problem = &ECC{On: true, Corrected: 1 << 40, Uncorrectable: 2}, i
		g.Processes = []Process{{PID: 1<<22 - 1, Used: 1 << 33}, {PID: 1}}
		g.List = i
		g.Cut(7)
		g.Partitions[6].Processes = []Process{{PID: 77, Used: 5}}
	}
	return s
}

func TestLibraryReadsWhatIsWritten(t *testing.T) {
	r := newReader(t)
	for name, s := range map[string]State{
		"usual":                Default(2, 24<<30),
		"nothing_is_supported": {Driver: "1", GPUs: []GPU{{UUID: "GPU-a"}}},
		"no_gpus":              Default(0, 0),
		"everything":           full(),
	} {
		t.Run(name, func(t *testing.T) {
			r.write(s)
			if diff := cmp.Diff(s.String(), r.read()); diff != "" {
				t.Errorf("-written +read\n%s", diff)
			}
		})
	}
	t.Run("no_file_is_no_driver", func(t *testing.T) {
		if err := os.Remove(filepath.Join(r.dir, StateFile)); err != nil {
			t.Fatal(err)
		}
		if got := r.read(); !strings.Contains(got, "init 9\n") || strings.Contains(got, "gpu\n") {
			t.Errorf("read %s", got)
		}
	})
}

// TestEveryChangeIsSeen: two changes of the same length within one tick of the clock, as kernels
// before 6.13 keep it for files, are seen from what was before them, though a file system may give
// the second the inode that the first took the place of.
func TestEveryChangeIsSeen(t *testing.T) {
	r := newReader(t)
	s, tick := Default(1, 24<<30), time.Unix(1e9, 0)
	for i := range 20 {
		for range 2 {
			s.GPUs[0].Temperature = new(10 + (*s.GPUs[0].Temperature+1)%80)
			next := filepath.Join(r.dir, "next")
			err := errors.Join(os.WriteFile(next, []byte(s.String()), 0o644), os.Chtimes(next, tick, tick),
				os.Rename(next, filepath.Join(r.dir, StateFile)))
			if err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(s.String(), r.read()); diff != "" {
			t.Fatalf("change %d: -written +read\n%s", i, diff)
		}
	}
}

// TestReplacedWhileItIsRead: each reading is one of the states that were in force, and never half
// of one.
func TestReplacedWhileItIsRead(t *testing.T) {
	r := newReader(t)
	states := []State{Default(1, 8<<30), full(), Default(8, 24<<30)}
	r.write(states[0])
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := states[i%len(states)].Write(r.dir); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writer.Wait()
	defer stop()
	known := make(map[string]int)
	for _, s := range states {
		known[s.String()] = 0
	}
	for range 500 {
		got := r.read()
		if _, ok := known[got]; !ok {
			t.Fatalf("never written:\n%s", got)
		}
		known[got]++
	}
}

// FuzzState: any state that fits reads as it was written.
func FuzzState(f *testing.F) {
	f.Add("550.1", "GPU-a", "A card", "0000:41:00.0", uint64(24<<30), uint64(1<<29), 40, 3, 2, uint8(0xff))
	f.Add("", "", "", "", uint64(0), ^uint64(0), 0, 0, 0, uint8(0))
	r := newReader(f)
	f.Fuzz(mutate.Many(func(t *testing.T, driver, uuid, name, pci string, total, used uint64,
		number, processes, partitions int, has uint8) {
		for _, text := range []string{driver, uuid, name, pci} {
			if len(text) > 95 || strings.ContainsAny(text, "\n\x00") {
				t.Skip("no name that is written")
			}
		}
		if number < 0 || number > 1<<30 || processes < 0 || processes > 128 || partitions < 0 || partitions > 7 {
			t.Skip("more than the library takes")
		}
		g := GPU{UUID: uuid, Name: name, PCI: pci, Total: total, Reserved: used, Problem: number,
			List: number}
		for bit, field := range []**int{&g.Minor, &g.Utilization, &g.Temperature, &g.State, &g.Power, &g.Recovery} {
			if has&(1<<bit) != 0 {
				*field = new(number)
			}
		}
		if has&(1<<6) != 0 {
			g.ECC, g.Remap, g.Major, g.MinorCC = &ECC{Corrected: total, Uncorrectable: used},
				&[4]int{number, 0, number, 1}, 1+number, number
		}
		for i := range processes {
			g.Processes = append(g.Processes, Process{PID: i, Used: used})
		}
		if has&(1<<7) != 0 {
			g.MIG = new(partitions > 0)
		}
		for i := range partitions {
			g.Partitions = append(g.Partitions,
				Partition{UUID: uuid, Profile: name, GI: i, CI: number, Slices: 1, Total: total,
					Processes: g.Processes})
		}
		s := State{Driver: driver, Library: name, CUDA: number, Init: number, Generation: number,
			GPUs: []GPU{g, {UUID: fmt.Sprint(number)}}}
		r.t = t
		r.write(s)
		if diff := cmp.Diff(s.String(), r.read()); diff != "" {
			t.Errorf("-written +read\n%s", diff)
		}
	}))
}

// FuzzReader: whatever lies in the file, the reader stays within its memory, and takes the next
// state that is right.
func FuzzReader(f *testing.F) {
	f.Add(full().String())
	f.Add("gpu\nremap 1\ncc\npartition\nprocess -1 x\ngpu")
	f.Add(strings.Repeat("gpu\n", 40) + strings.Repeat("partition\n", 40) + strings.Repeat("process 1 1\n", 400) +
		strings.Repeat("x", 2000))
	r := newReader(f)
	good := Default(1, 1<<30)
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		r.t = t
		if err := os.WriteFile(filepath.Join(r.dir, "other"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(r.dir, "other"), filepath.Join(r.dir, StateFile)); err != nil {
			t.Fatal(err)
		}
		r.read()
		r.write(good)
		if diff := cmp.Diff(good.String(), r.read()); diff != "" {
			t.Errorf("-written +read\n%s", diff)
		}
	}))
}
