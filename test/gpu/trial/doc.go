// Package trial tries the product on a real GPU, on a host that has NVIDIA's driver, a Python with
// PyTorch and nothing else of ours: what `make gpu-bundle` packs runs it.
//
// A trial is a list of steps, each with a time limit of its own and a table as its result. Some run
// on the host itself. Those that need systemd run in a container, whose root file system is the
// host's, with systemd and the product laid over it: so NVIDIA's libraries, Python and PyTorch are
// in it as the host has them, and the host's own services are not touched. Where there can be no
// such container, its steps report why, and the others run.
//
// It owns the steps and their tables. It changes no setting of a GPU and never resets one. It must
// not decide what a result means for the product: people read the tables, and put them into
// docs/gpus.md.
package trial
