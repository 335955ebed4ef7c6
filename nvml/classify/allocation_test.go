package classify

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestFailedAllocation(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	cases := []struct {
		name, line string
		want       Allocation // zero: none
	}{
		{"llamacpp", "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.50 MiB on device 1: cudaMalloc failed: out of memory",
			Allocation{Bytes: 9000*mib + mib/2, Device: 1}},
		{"llamacpp_buffer", "alloc_tensor_range: failed to allocate CUDA0 buffer of size 9437184000", Allocation{Bytes: 9437184000}},
		{"pytorch", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 14.58 GiB of which " +
			"1.29 GiB is free. Process 7 has 1.00 GiB memory in use. Including non-PyTorch memory, this process has 12.25 GiB memory in use.",
			Allocation{Bytes: 2 * gib, Device: 1, InUse: 12*gib + gib/4}},
		{"pytorch_before_2.1", "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.78 GiB total capacity; 14.56 GiB already allocated)",
			Allocation{Bytes: 20 * mib}},
		{"no_device_named", "CUDA out of memory. Tried to allocate 512 bytes.", Allocation{Bytes: 512, Device: -1}},
		{"no_size", "CUDA error: out of memory", Allocation{}},
		{"a_size_that_no_gpu_has", "alloc_tensor_range: failed to allocate CUDA0 buffer of size 99999999999999999999", Allocation{}},
		{"nothing", "alloc_tensor_range: failed to allocate CUDA0 buffer of size 0", Allocation{}},
		{"a_caller_said_so", `received request prompt: "CUDA out of memory. Tried to allocate 2.00 GiB"`, Allocation{}},
		{"main_memory", "failed to allocate CPU buffer of size 5", Allocation{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := FailedAllocation(c.line); got != c.want || ok != (c.want.Bytes > 0) {
				t.Errorf("= %+v, %t; want %+v", got, ok, c.want)
			}
		})
	}
}

func TestLastAllocation(t *testing.T) {
	const big = "alloc_tensor_range: failed to allocate CUDA0 buffer of size 9000"
	const small = "alloc_tensor_range: failed to allocate CUDA0 buffer of size 5"
	const retried = "compute buffer allocation failed, retrying without pipeline parallelism"
	for _, c := range []struct {
		name  string
		lines []string
		want  uint64
	}{
		{"none", []string{"loading"}, 0},
		{"the_largest_on_a_gpu", []string{big, small}, 9000},
		{"one_that_it_went_on_without", []string{big, retried}, 0},
		{"and_one_after_it", []string{big, retried, small}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := LastAllocation(c.lines); got.Bytes != c.want || ok != (c.want > 0) {
				t.Errorf("= %+v, %t; want %d bytes", got, ok, c.want)
			}
		})
	}
}

// FuzzFailedAllocation: what is read is within bounds, or nothing.
func FuzzFailedAllocation(f *testing.F) {
	f.Add("allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory")
	f.Add("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity, " +
		"this process has 1e9 KiB memory in use")
	f.Add("failed to allocate CUDA0 buffer of size 9437184000")
	f.Fuzz(mutate.Many(func(t *testing.T, line string) {
		a, ok := FailedAllocation(line)
		if ok != (a.Bytes > 0) || max(a.Bytes, a.InUse) > maxAllocation || a.Device < -1 || a.Device > 999 {
			t.Errorf("%+v, %t", a, ok)
		}
	}))
}
