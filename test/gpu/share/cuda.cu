// A CUDA program with nothing but the runtime: it takes MiB (its argument, 64 by default) of GPU memory, runs a kernel on
// it, checks the result, prints one line of JSON, and keeps the memory if there is a second argument. nvcc builds it twice: as machine code, and as PTX that the driver
// compiles when the program runs.
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

__global__ void fill(unsigned *at, size_t n) {
	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += gridDim.x * (size_t)blockDim.x)
		at[i] = (unsigned)i;
}

static void check(cudaError_t e, const char *call) {
	if (e == cudaSuccess)
		return;
	fprintf(stderr, "%s: CUDA error: %s (%s)\n", call, cudaGetErrorString(e), cudaGetErrorName(e));
	exit(1);
}

int main(int argc, char **argv) {
	size_t bytes = (argc > 1 ? strtoull(argv[1], nullptr, 10) : 64) << 20;
	int gpus = 0;
	check(cudaGetDeviceCount(&gpus), "cudaGetDeviceCount");
	unsigned *at = nullptr, last = 0;
	check(cudaMalloc(&at, bytes), "cudaMalloc");
	size_t n = bytes / sizeof *at;
	fill<<<256, 256>>>(at, n);
	check(cudaGetLastError(), "the launch");
	check(cudaMemcpy(&last, at + n - 1, sizeof last, cudaMemcpyDeviceToHost), "cudaMemcpy");
	size_t free = 0, total = 0;
	check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
	printf("{\"ok\": %s, \"pid\": %d, \"gpus\": %d, \"taken_bytes\": %zu, \"free_bytes\": %zu, \"total_bytes\": %zu}\n",
		last == (unsigned)(n - 1) ? "true" : "false", getpid(), gpus, bytes, free, total);
	fflush(stdout);
	if (argc > 2)
		pause();
	return last == (unsigned)(n - 1) ? 0 : 1;
}
