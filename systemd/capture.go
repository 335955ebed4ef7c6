package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// cleanupTimeout bounds the calls that end a unit whose caller has given up.
const cleanupTimeout = 5 * time.Second

// RunCapture runs a transient unit of Type=oneshot to its end and returns what it wrote to standard
// output and standard error, at most limit bytes of it (the rest is read and dropped), and its last
// status. A command that fails is no error: see the status. When ctx ends the unit is stopped, and
// the output so far is returned with the context's error. The unit is collected in any case; when
// ctx has a deadline PID 1 knows it too (TimeoutStartUSec), so that the unit ends even if this
// process dies.
//
// Properties of the caller come first and may not set Type, CollectMode or the standard streams.
func (c *Client) RunCapture(ctx context.Context, unit string, props []Property, limit int) ([]byte, Status, error) {
	read, write, err := capturePipe()
	if err != nil {
		return nil, Status{}, fmt.Errorf("%s: pipe for the output: %w", unit, err)
	}
	defer read.Close()
	job, err := c.StartTransient(ctx, unit, captureProperties(ctx, props, write))
	write.Close()
	if err != nil {
		if ctx.Err() != nil {
			c.endCapture(ctx, unit, true) // PID 1 may still carry the call out
		}
		return nil, Status{}, err
	}
	output := make(chan []byte, 1)
	go func() { output <- readBounded(read, limit) }()

	err = job.Wait(ctx)
	var ended *JobError
	if errors.As(err, &ended) && (ended.Result == "failed" || ended.Result == "timeout") {
		err = nil // the status says how
	}
	var st Status
	if err == nil {
		st, err = c.Unit(ctx, unit)
	}
	c.endCapture(ctx, unit, err != nil)
	// The unit has no process any more, or is not waited for: what is in the pipe now is all.
	_ = read.SetReadDeadline(time.Now().Add(drainTime))
	return <-output, st, err
}

// drainTime is how long the rest of the output is read after the unit ended. The end of file comes
// at once, unless a process escaped the unit's control group with the pipe in its hands.
const drainTime = time.Second

// endCapture lets PID 1 collect the unit, and first stops it when it was given up. ctx may have
// ended.
func (c *Client) endCapture(ctx context.Context, unit string, stop bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if stop {
		if job, err := c.Stop(ctx, unit); err == nil {
			_ = job.Wait(ctx)
		}
	}
	_ = c.Unref(ctx, unit)
}

func captureProperties(ctx context.Context, props []Property, write *os.File) []Property {
	out := slices.Concat(props, []Property{
		{Name: "Type", Value: "oneshot"},
		{Name: "CollectMode", Value: "inactive-or-failed"},
		{Name: "AddRef", Value: true}, // keeps the exit status readable after the end
		{Name: "StandardOutputFileDescriptor", Value: write},
		{Name: "StandardErrorFileDescriptor", Value: write},
	})
	deadline, ok := ctx.Deadline()
	if ok && !slices.ContainsFunc(props, func(p Property) bool { return p.Name == "TimeoutStartUSec" }) {
		left := max(time.Until(deadline), time.Second)
		out = append(out, Property{Name: "TimeoutStartUSec", Value: uint64(left / time.Microsecond)})
	}
	return out
}

// capturePipe returns a pipe whose read end the runtime can wait on with a deadline. The write end
// blocks, as a program expects of its standard output; os.Pipe would make it non-blocking.
func capturePipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output of the unit"), nil
}

// readBounded reads to the end and keeps the first limit bytes.
func readBounded(r io.Reader, limit int) []byte {
	out, err := io.ReadAll(io.LimitReader(r, int64(max(limit, 0))))
	if err == nil {
		_, _ = io.CopyN(io.Discard, r, math.MaxInt64)
	}
	return out
}
