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

// piped is a helper's unit with its output on pipes. A caller captures what it writes, or follows
// it.
type piped struct {
	job  *Job     // of its start
	out  *os.File // standard output, and standard error where it is not apart
	said *os.File // standard error; nil where it is not apart
}

// close gives up what has not been read. A program that writes more ends by SIGPIPE.
func (p *piped) close() {
	p.out.Close()
	if p.said != nil {
		p.said.Close()
	}
}

// startPiped starts a helper's unit, in the place of one of that name which a former manager left.
// The properties say how it is started (Type) and fenced; those of its output, its reference and
// its collection are added. apart gives standard error a pipe of its own. The caller closes the
// pipes and ends with endHelper.
func (c *Client) startPiped(ctx context.Context, unit string, props []Property, apart bool) (*piped, error) {
	p := &piped{}
	var outEnd, saidEnd *os.File
	var err error
	if p.out, outEnd, err = capturePipe(); err != nil {
		return nil, fmt.Errorf("%s: pipe for the output: %w", unit, err)
	}
	defer outEnd.Close()
	if saidEnd = outEnd; apart {
		if p.said, saidEnd, err = capturePipe(); err != nil {
			p.close()
			return nil, fmt.Errorf("%s: pipe for the errors: %w", unit, err)
		}
		defer saidEnd.Close()
	}
	p.job, err = c.startHelper(ctx, unit, slices.Concat(props, []Property{
		{Name: "CollectMode", Value: "inactive-or-failed"},
		{Name: "AddRef", Value: true}, // keeps the exit status readable after the end
		{Name: "StandardOutputFileDescriptor", Value: outEnd},
		{Name: "StandardErrorFileDescriptor", Value: saidEnd},
	}))
	if err != nil {
		p.close()
		if ctx.Err() != nil {
			c.endHelper(ctx, unit, true) // PID 1 may still carry the call out
		}
		return nil, err
	}
	return p, nil
}

// startHelper starts a unit, in the place of one of that name which a former manager left.
func (c *Client) startHelper(ctx context.Context, unit string, props []Property) (*Job, error) {
	job, err := c.StartTransient(ctx, unit, props)
	if !errors.Is(err, ErrUnitExists) {
		return job, err
	}
	former, stopped := c.Stop(ctx, unit)
	if stopped == nil {
		stopped = former.Wait(ctx)
	}
	if stopped != nil && !errors.Is(stopped, ErrNoSuchUnit) {
		return nil, errors.Join(err, stopped)
	}
	return c.StartTransient(ctx, unit, props)
}

// cleanupTimeout bounds the calls that end a unit whose caller has given up.
const cleanupTimeout = 5 * time.Second

// drainTime is how long the rest of the output is read after the unit ended. The end of file comes
// at once, unless a process escaped the unit's control group with the pipe in its hands.
const drainTime = time.Second

// endHelper lets PID 1 collect the unit, and first stops it when it was given up. ctx may have
// ended.
func (c *Client) endHelper(ctx context.Context, unit string, stop bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if stop {
		if job, err := c.Stop(ctx, unit); err == nil {
			_ = job.Wait(ctx)
		}
	}
	_ = c.Unref(ctx, unit)
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
