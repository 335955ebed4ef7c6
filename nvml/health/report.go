package health

import (
	"cmp"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// sameFault is the longest time between two reports of one fault.
const sameFault = 10 * time.Second

// report identifies a fault, whatever its source.
type report struct {
	device, kind string
	xid, gi, ci  int
}

// source is where and how a fault was reported last.
type source struct {
	source classify.Source
	kind   string
	at     time.Time
}

// reports remember the source of each fault, to recognise a second report of it.
type reports map[report]source

// fresh reports whether the verdict is a new fault: not one that was reported shortly before by
// another source or with another text. The same text from the same source is a new fault.
func (r reports) fresh(v classify.Verdict, at time.Time) bool {
	key := faultOf(v)
	before, ok := r[key]
	if ok && (before.source != v.Source || before.kind != v.Kind) && at.Sub(before.at).Abs() < sameFault {
		return false
	}
	for k, t := range r { // too old
		if at.Sub(t.at) > sameFault {
			delete(r, k)
		}
	}
	r[key] = source{v.Source, v.Kind, at}
	return true
}

// reported reports whether NVML reported the same fault shortly before.
func (r reports) reported(v classify.Verdict, at time.Time) bool {
	before, ok := r[faultOf(v)]
	return ok && before.source != v.Source && at.Sub(before.at).Abs() < sameFault
}

// faultOf identifies the fault apart from its source. A GPU that is in no sample yet is identified
// by its address.
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
