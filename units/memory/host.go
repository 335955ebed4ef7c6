package memory

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
)

// Available returns how much main memory can be allocated without swapping, in bytes.
func Available() (uint64, error) { return ram.Available() }

// CheckHost returns why a replica with that need must not start on a host with so many bytes
// available and that MemoryMax= (0: none); nil: it may. An unknown need passes.
//
// A mapped model counts, which the message mentions: an engine on the CPU reads all of its weights
// for each token, and would read what does not fit from the disk each time.
func CheckHost(need Need, available, memoryMax uint64) *registry.Failure {
	mapped := ""
	if need.Mapped > 0 {
		mapped = fmt.Sprintf(" (%s of it the model's file, mapped)", Size(need.Mapped))
	}
	switch {
	case memoryMax > 0 && need.Host > memoryMax:
		return registry.Fail(registry.CodeInsufficientRAM,
			fmt.Sprintf("needs %s of main memory%s, and its memory_max is %s", Size(need.Host), mapped,
				Size(memoryMax)),
			"Raise memory_max of the pool's [limits], lower ctx or slots, or use a smaller model.")
	case need.Host > available:
		return registry.Fail(registry.CodeInsufficientRAM,
			fmt.Sprintf("needs %s of main memory%s, and %s is available", Size(need.Host), mapped, Size(available)),
			"Stop what takes the memory, lower ctx or slots, or use a smaller model. The pool starts by itself when "+
				"there is enough.")
	}
	return nil
}

// Size formats bytes, in units of 1024 as free(1) and nvidia-smi do.
func Size(bytes uint64) string { return ram.Size(bytes) }
