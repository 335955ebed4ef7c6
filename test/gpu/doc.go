// Package gpu asks real GPUs: pool-gpu with NVIDIA's own driver, which everywhere else is a
// stand-in. On a host without a GPU each test is skipped, with that reason.
//
// The tests carry the build tag "gpu", change nothing on the GPUs, and need no test machine:
//
//	make test-gpu
//
// It owns the comparison with nvidia-smi. What becomes of the facts is tested elsewhere.
package gpu
