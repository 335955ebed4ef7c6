package memory

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Available returns how much main memory can be allocated without swapping, in bytes.
func Available() (uint64, error) { return ram.Available() }

// CheckHost compares the need of a replica of a pool with so many bytes available and with its
// MemoryMax=. It returns why the replica must not start (nil: it may) and what to warn of if it
// does. An unknown need passes.
//
// A mapped model counts in both, and is refused only where the pool's file asks for it: the kernel
// drops pages of it and reads them again, so that the engine is slow and not killed.
func CheckHost(need Need, available uint64, p pool.Pool) (refused *registry.Failure, warning string) {
	if p.MemoryCheck == pool.MemoryOff {
		return nil, ""
	}
	f := shortOfHost(need, need.MainMemory(), available, p.Limits.MemoryMaxBytes)
	if f == nil {
		return nil, ""
	}
	firm := need.MainMemory()
	if p.MemoryCheck == "" && firm == need.Host { // what a load lacked was not mapped
		firm -= min(firm, need.Mapped)
	}
	if p.MemoryCheck != pool.MemoryWarn && shortOfHost(need, firm, available, p.Limits.MemoryMaxBytes) != nil {
		return f, ""
	}
	if firm < need.MainMemory() {
		return nil, f.Message + "; the kernel reads what does not fit from the disk again and again"
	}
	return nil, f.Message
}

// shortOfHost returns why so many bytes of a need do not fit; nil: they do.
func shortOfHost(need Need, bytes, available, memoryMax uint64) *registry.Failure {
	mapped := ""
	if need.Mapped > 0 {
		mapped = fmt.Sprintf(" (%s of it the model's file, mapped)", Size(need.Mapped))
	}
	switch {
	case memoryMax > 0 && bytes > memoryMax:
		return registry.Fail(registry.CodeInsufficientRAM,
			fmt.Sprintf("needs %s of main memory%s, and its memory_max is %s", Size(need.MainMemory()), mapped,
				Size(memoryMax)),
			"Raise memory_max of the pool's [limits], lower ctx or slots, or use a smaller model; "+
				`memory_check = "warn" starts it all the same.`+need.raisedClause())
	case bytes > available:
		return registry.Fail(registry.CodeInsufficientRAM,
			fmt.Sprintf("needs %s of main memory%s, and %s is available", Size(need.MainMemory()), mapped,
				Size(available)),
			"Stop what takes the memory, lower ctx or slots, or use a smaller model. The pool starts by itself when "+
				`there is enough; memory_check = "warn" starts it now.`+need.raisedClause())
	}
	return nil
}

// Size formats bytes, in units of 1024 as free(1) and nvidia-smi do.
func Size(bytes uint64) string { return ram.Size(bytes) }
