package health

import (
	"cmp"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// sameFault is how far apart two reports of one fault may come.
const sameFault = 10 * time.Second

// report is one fault, from any source.
type report struct {
	device, kind string
	xid, gi, ci  int
}

// source is where a fault was reported last, and as what.
type source struct {
	source classify.Source
	kind   string
	at     time.Time
}

// reports remember the source of each fault, to recognise a second report of the same.
type reports map[report]source

// fresh reports whether the verdict is not the same fault as one from another source, or in other
// words, shortly before. The same words from the same source are a new fault.
func (r reports) fresh(v classify.Verdict, at time.Time) bool {
	key := faultOf(v)
	before, ok := r[key]
	if ok && (before.source != v.Source || before.kind != v.Kind) && at.Sub(before.at).Abs() < sameFault {
		return false
	}
	for k, t := range r { // what is too old to be usable
		if at.Sub(t.at) > sameFault {
			delete(r, k)
		}
	}
	r[key] = source{v.Source, v.Kind, at}
	return true
}

// faultOf names the fault apart from its source. A GPU that no sample has named is known by its
// address.
func faultOf(v classify.Verdict) report {
	f := report{device: cmp.Or(v.Device, v.PCI), kind: v.Kind, xid: v.Xid, gi: number(v.GI), ci: number(v.CI)}
	switch {
	case strings.HasPrefix(v.Kind, "recovery-"): // reported by an event, and by Xid 154
		f.xid = 0
	case v.Kind == "ecc-double-bit":
		f.kind, f.xid = "xid", 48
	case v.Kind == "off-bus":
		f.kind, f.xid = "xid", 79
	}
	return f
}
