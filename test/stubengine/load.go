package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// loadStep is how often a load shows progress. burst is how long it burns the processor each time: a tenth of
// a core, which is little for a load and much for a process that only answers a health check.
const (
	loadStep = 200 * time.Millisecond
	burst    = 20 * time.Millisecond
	ioChunk  = 64 << 10 // bytes read each step
)

// load passes the time of a model load, showing only the progress that the mode names.
func load(ctx context.Context, o options) {
	deadline := time.Now().Add(o.Load)
	for step := 1; ; step++ {
		left := time.Until(deadline)
		if left <= 0 || ctx.Err() != nil {
			return
		}
		switch o.LoadMode {
		case loadCPU:
			burn(burst)
		case loadIO:
			readSome(step)
		case loadLog:
			fmt.Printf("stubengine: loading, step %d\n", step)
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(left, loadStep)):
		}
	}
}

// burn uses one core for so long.
func burn(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); {
	}
}

// readSome reads a piece of this program's own file, another piece each step.
func readSome(step int) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		fmt.Fprintln(os.Stderr, "stubengine:", err)
		return
	}
	defer f.Close()
	// A read past the end is only the end of the progress.
	_, _ = f.ReadAt(make([]byte, ioChunk), int64(step%32)*ioChunk)
}
