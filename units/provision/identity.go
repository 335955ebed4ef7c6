package provision

import (
	"context"
	"io/fs"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/bring"
)

// identity names one version of a file.
func identity(path string, info fs.FileInfo) string { return bring.Identity(path, info) }

// settled waits until a later change of the file must have another change time than the one in
// info.
func settled(ctx context.Context, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	age := time.Since(time.Unix(st.Ctim.Unix()))
	if age < 0 || age >= settleTime { // a change time in the future proves nothing
		return nil
	}
	select {
	case <-time.After(settleTime - age):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
