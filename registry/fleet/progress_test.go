package fleet

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// TestProgress: what a publisher reports is counted, and the time is that of the last change
// between published, not published and a conflict.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().UnixMilli()
		p := NewProgress("etcd")
		for _, step := range []struct {
			do   func()
			want wire.FleetPublishing
		}{
			{func() {}, wire.FleetPublishing{}},
			{func() { p.Failed(errors.New("refused")) }, wire.FleetPublishing{Failures: 1, LastError: "refused"}},
			{func() { p.Wrote(3) }, wire.FleetPublishing{Published: true, Failures: 1, Writes: 3, SinceMS: 2000, LastMS: 2000}},
			{func() { p.Wrote(1) }, wire.FleetPublishing{Published: true, Failures: 1, Writes: 4, SinceMS: 2000, LastMS: 3000}},
			{func() { p.Ended() }, wire.FleetPublishing{Failures: 1, Writes: 4, SinceMS: 4000, LastMS: 3000}},
			{func() { p.Conflicted(errors.New("twin")) },
				wire.FleetPublishing{Conflict: true, Failures: 1, Writes: 4, SinceMS: 5000, LastMS: 3000, LastError: "twin"}},
			{func() { p.Wrote(2) }, wire.FleetPublishing{Published: true, Failures: 1, Writes: 6, SinceMS: 6000, LastMS: 6000}},
		} {
			step.do()
			step.want.To, step.want.SinceMS = "etcd", step.want.SinceMS+begin
			if step.want.LastMS != 0 {
				step.want.LastMS += begin
			}
			if diff := cmp.Diff(step.want, p.Status()); diff != "" {
				t.Errorf("after %d ms (-want +got)\n%s", time.Now().UnixMilli()-begin, diff)
			}
			time.Sleep(time.Second)
		}
		var none *Progress
		none.Wrote(1)
		none.Failed(errors.New("x"))
	})
}
