package systemd

import (
	"context"
	"errors"
	"slices"
	"time"
)

// RunCapture runs a transient unit of Type=oneshot to its end and returns what it wrote to standard
// output and standard error, at most limit bytes of it (the rest is read and dropped), and its last
// status. A command that fails is no error: see the status. When ctx ends the unit is stopped, and
// the output so far is returned with the context's error. The unit is collected in any case; when
// ctx has a deadline PID 1 knows it too (TimeoutStartUSec), so that the unit ends even if this
// process dies.
//
// Properties of the caller come first and may not set Type, CollectMode or the standard streams.
func (c *Client) RunCapture(ctx context.Context, unit string, props []Property, limit int) ([]byte, Status, error) {
	run, err := c.startPiped(ctx, unit, captureProperties(ctx, props), false)
	if err != nil {
		return nil, Status{}, err
	}
	defer run.close()
	output := make(chan []byte, 1)
	go func() { output <- readBounded(run.out, limit) }()

	err = run.job.Wait(ctx)
	var ended *JobError
	if errors.As(err, &ended) && (ended.Result == "failed" || ended.Result == "timeout") {
		err = nil // the status says how
	}
	var st Status
	if err == nil {
		st, err = c.Unit(ctx, unit)
	}
	c.endHelper(ctx, unit, err != nil)
	// The unit has no process left, or is not waited for: what is in the pipe now is all.
	_ = run.out.SetReadDeadline(time.Now().Add(drainTime))
	return <-output, st, err
}

func captureProperties(ctx context.Context, props []Property) []Property {
	out := append(slices.Clone(props), Property{Name: "Type", Value: "oneshot"})
	deadline, ok := ctx.Deadline()
	if ok && !slices.ContainsFunc(props, func(p Property) bool { return p.Name == "TimeoutStartUSec" }) {
		left := max(time.Until(deadline), time.Second)
		out = append(out, Property{Name: "TimeoutStartUSec", Value: uint64(left / time.Microsecond)})
	}
	return out
}
