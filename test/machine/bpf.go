package machine

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LoadsBPF reports why this process may load no BPF program for the devices of a control group, as
// runc does for each container; nil: it may. A container machine may what its host may, where its
// Calls have bpf.
func LoadsBPF() error {
	program := []uint64{
		0x1_0000_00b7, // r0 = 1: the device may be opened
		0x95,          // exit
	}
	license := []byte("GPL\x00")
	attr := struct {
		kind, length      uint32
		program, license  uint64
		level, size       uint32
		log               uint64
		version, optional uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, length: uint32(len(program)),
		program: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		return fmt.Errorf("bpf: %w", errno)
	}
	return os.NewFile(fd, "bpf").Close()
}
