package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// loadStep is how often a load shows progress. burst is how long it burns the processor each time:
// a tenth of a core, which is little for a load and much for a process that only answers a health
// check.
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
			if err := readSome(o.Model, step); err != nil {
				fmt.Fprintln(os.Stderr, "stubengine: no input:", err)
			}
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

// readSome reads a piece of the model from the disk itself: what the page cache has of it is
// dropped before.
func readSome(model string, step int) error {
	f, err := os.Open(model)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	pieces := max(info.Size()/ioChunk, 1)
	_, err = f.ReadAt(make([]byte, ioChunk), int64(step)%pieces*ioChunk)
	if errors.Is(err, io.EOF) { // a model smaller than a piece
		return nil
	}
	return err
}
